//! Pages of words that occur in reports: the verdicts and the exit statuses.

/// A word with its summary and its page, which has at most [`COLUMNS_MAX`](super::COLUMNS_MAX) columns.
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
        summary: "what a run shows about the log: holds, inconclusive or violated",
        page: "\
The judge looks at a run when it is over, and uses nothing but the history of the run. Of the
following verdicts, the run gets the first one that applies.

violated
A promise was broken: an invariant did not hold, a bound under [expect] was exceeded, or an event
under `never` was seen.

inconclusive
No promise was broken, but something was not put to the test: a step did not begin or struck
nothing, an event under `seen` was not seen, too few appends were acknowledged, or an invariant
had nothing to judge. A run of a log that declines every promise is inconclusive, too.

holds
Every promise was put to the test and kept, everything that was expected was seen, and every step
struck.

Where to read on
`gapless explain violated`, `inconclusive` and `holds` say more about each verdict.
`gapless list invariants` lists the invariants, and each of them has a page.
",
    },
    Word {
        name: "holds",
        summary: "everything promised was put to the test and kept, and every step struck",
        page: "\
This is the verdict of one run, for its scenario and its seed. Another seed draws other moments
and other hosts, so `--seeds 0..100` shows more.

An invariant that only a fault can put to the test may be idle in a run that holds, as
`no-silent-corruption` is if no disk was damaged. The screen of a violation lists these
invariants under `idle`.
",
    },
    Word {
        name: "inconclusive",
        summary: "nothing was broken, but this run could not have shown that something can break",
        page: "\
A step that struck nothing must not look like a step that the log survived. Therefore a run that
proves too little does not pass: the command exits with 101, and in `cargo test` the test fails.

What causes it
A step left no trace of having struck: no connection was open when connections were reset, or no
clock was read while it was wrong. `gapless explain FAULT` says what proves that a fault bit.
A step never began, because the moment that it waits for did not come.
An event that is expected under `seen` did not come, or fewer appends than `acked-at-least` were
acknowledged.
An invariant had nothing to judge: nothing was acknowledged, or nothing was read.

What to do
The report says which of these it was, and what to change in the scenario: usually, begin the
step while there is traffic, or let it last longer. A rare event belongs under `sometimes`, which
is not judged in a single run: a sweep names the events there that no run showed.
",
    },
    Word {
        name: "violated",
        summary: "something that was promised was broken",
        page: "\
An invariant was broken, or something that the scenario itself demands: a bound was exceeded
(`recovers-within`, `blind-at-most`, `dead-letters`, `connections-at-most`), or an event under
`never` was seen.

How to read the screen
The first paragraph says what is wrong, and where. Below it are the events that show it, with a
column for each host. `why` names the cause if the history has it. `also` names what else was
broken, which is often a consequence. `unknown` counts the appends without an answer, which may
or may not be in the log.

What to do
`reproduce` repeats the run, to the byte, with every event; `--host` shows only the events of one
host. A sweep reports the runs of one cause once, with all their seeds.
",
    },
    Word {
        name: "exit-codes",
        summary: "how a command ended, as a number that scripts can rely on",
        page: "\
    0  everything holds; `check`: there are no errors; `shrink`: the smallest scenario was found
    1  something in gapless or around it failed, a run did not come to an end, or two runs of one
       seed differ (--check-determinism)
    2  the command line is wrong
    3  a scenario file is not valid
    4  nothing is selected: no file, no name, an empty share, or no time for a single run;
       `shrink`: the run does not fail
  100  a run is violated
  101  nothing is violated, but a run is inconclusive; `explore`: no run came to a full verdict
  130  interrupted (Ctrl-C): the results so far were reported, violations included, and the rest
       was not run

If several apply, a sweep ends with the first of 130, 100, 1 and 101. Results go to stdout,
everything else to stderr.
",
    },
];
