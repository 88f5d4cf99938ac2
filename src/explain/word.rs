//! Pages of words that stand in reports: the verdicts, and the exit statuses.

/// A word with its summary and its page, which is of at most [`COLUMNS_MAX`](super::COLUMNS_MAX) columns.
pub(super) struct Word {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    page: &'static str,
}

impl Word {
    pub(super) fn page(&self) -> String {
        format!("{}: {}\n\n{}", self.name, self.summary, self.page)
    }
}

pub(super) fn find(name: &str) -> Option<&'static Word> {
    WORDS.iter().find(|word| word.name == name)
}

pub(super) static WORDS: &[Word] = &[
    Word {
        name: "verdict",
        summary: "what a run says about the log: holds, inconclusive or violated",
        page: "\
A run is judged by its history and by nothing else, once it is over. Its verdict is the worst of
what was found.

violated
Something that was promised was broken: an invariant, or a bound or a `never` under [expect].

inconclusive
Nothing was broken, but the run could not have shown it: a step struck nothing, an event under
`seen` did not come, or an invariant had nothing to be held against.

holds
All that was promised was put to the test, and was kept; every step struck.

Where to read on
`gapless explain inconclusive`, and the page of each invariant: `gapless list invariants`.
",
    },
    Word {
        name: "holds",
        summary: "everything promised was put to the test and kept, and every step struck",
        page: "\
Said of a run. It is said for its scenario and its seed; another seed draws other moments and
other hosts, so `--seeds 0..100` says more.

Invariants that only a fault can put to the test (`no-silent-corruption` without a disk that was
damaged) may be idle in a run that holds. The screen of a violation lists them under `idle`.
",
    },
    Word {
        name: "inconclusive",
        summary: "nothing was broken, but this run could not have shown that it can be",
        page: "\
A step that struck nothing must not look like one that was survived. So a run that proves too
little is no pass: it exits 101, and fails as a test.

What brings it about
A step left no trace of having struck: nobody was connected when connections were reset, no
clock was read while it was wrong. `gapless explain FAULT` says what proves that each one bit.
A step never began, because the moment that it waits for did not come.
An event that is expected under `seen` did not come, or fewer appends than `acked-at-least` were
acknowledged.
An invariant had nothing to be held against: nothing was acknowledged, nobody read.

What to do
The row says which of them it was, and what to change in the scenario: mostly to begin the step
while there is traffic, or to let it last longer. An event that is rare belongs under
`sometimes`, which is asked of a sweep and not of each run.
",
    },
    Word {
        name: "violated",
        summary: "something that was promised was broken",
        page: "\
An invariant, or something that the scenario itself demands: a bound (`recovers-within`,
`blind-at-most`, `dead-letters`, `connections-at-most`), or an event under `never`.

How to read the screen
The first paragraph says what is wrong, and where. Below it stand the events that show it, each
host in a column of its own. `why` names the cause where the history has it; `also` what else
was broken, which is often a consequence. `unknown` are appends without an answer: they may be
in the log or not.

What to do
`reproduce` makes the run again, to the byte, with every event of it: `--host` shows those of
one host. In a sweep the runs of one cause are told once, with all their seeds.
",
    },
    Word {
        name: "exit-codes",
        summary: "how a command ended, as a number that scripts can rely on",
        page: "\
    0  everything holds; of `check`: no errors; of `shrink`: the smallest was found
    1  something in gapless or around it failed, a run came to no end, or two runs of one seed
       differ (--check-determinism)
    2  the command line makes no sense
    3  a scenario file is not valid
    4  nothing is selected: no file, no name, an empty share, or no time for a single run; of
       `shrink`: the run does not fail
  100  a run is violated
  101  nothing is violated, but a run is inconclusive; of `explore`: none came to a full verdict
  130  interrupted (Ctrl-C): what ran is told, violations so far included, and the rest was not
       run

Of several, a sweep ends with the first of 130, 100, 1 and 101 that applies. Results go to
stdout, everything else to stderr.
",
    },
];
