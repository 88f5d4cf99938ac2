//! Words and templates: what is listed, explained, completed, and written for somebody new.

use super::*;

#[test]
fn a_template_is_written_once_and_passes_the_check() {
    let bench = Bench::new();
    let said = bench.run(&["new", "my-incident", "--template", "partition"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let expected = "wrote scenarios/my-incident.toml, from the template `partition`; now\n  \
                    gapless check scenarios/my-incident.toml\n  gapless run scenarios/my-incident.toml\n";
    assert_eq!(said.out, expected);
    assert!(said.err.contains("gapless schema > schema/scenario.json"), "{}", said.err);
    assert_eq!(bench.run(&["check", "scenarios/my-incident.toml"]).status, 0);
    let text = fs::read(bench.path("scenarios/my-incident.toml")).expect("read");
    let again = bench.run(&["new", "my-incident"]);
    assert_eq!((again.status, again.out.as_str()), (2, ""));
    assert!(again.err.starts_with("error: scenarios/my-incident.toml is there already"), "{}", again.err);
    assert_eq!(fs::read(bench.path("scenarios/my-incident.toml")).expect("read"), text, "it is as it was");
}

#[test]
fn a_scenario_goes_where_it_is_told_to_go() {
    let bench = Bench::new();
    assert_eq!(bench.run(&["new", "a", "--to", "tests/night"]).status, 0);
    let text = fs::read_to_string(bench.path("tests/night/a.toml")).expect("written");
    assert!(text.starts_with("#:schema ../../schema/scenario.json\n"), "{text}");
    assert_eq!(bench.run(&["new", "a", "--template", "crash", "--to", "b.toml"]).status, 0);
    assert!(bench.path("b.toml").exists());
    bench.file("file", "");
    let said = bench.run(&["new", "a", "--to", "file"]);
    assert_eq!((said.status, said.out.as_str()), (1, ""));
    assert!(said.err.starts_with("error: cannot write file/a.toml: "), "{}", said.err);
}

#[test]
fn what_new_cannot_do_is_said_with_the_cure() {
    let bench = Bench::new();
    let mut said = String::new();
    let long = "a".repeat(65);
    for arguments in
        [&["new", "../x"][..], &["new", "Big"], &["new", ""], &["new", &long], &["new", "a", "--template", "partiton"]]
    {
        let it = bench.run(arguments);
        assert_eq!((it.status, it.out.as_str()), (2, ""), "{arguments:?}");
        said.push_str(&it.err);
    }
    assert_eq!(bench.run(&["new"]).status, 2);
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    insta::assert_snapshot!(said);
    assert!(is_empty(bench.0.path()), "something was written");
}

#[test]
fn every_word_is_listed_and_explained_within_the_columns() {
    let bench = Bench::new();
    for kind in ["faults", "events", "invariants"] {
        let list = bench.run(&["list", kind]);
        assert_eq!(list.status, 0);
        for line in list.out.lines() {
            assert!(line.chars().count() <= 100, "{line}");
            let name = line.split_whitespace().next().expect("a name");
            let page = bench.run(&["explain", name]);
            assert_eq!((page.status, page.err.as_str()), (0, ""), "{name}");
            assert!(page.out.starts_with(name), "{}", page.out);
        }
    }
    let all = bench.run(&["explain"]);
    assert!(all.out.lines().all(|line| line.chars().count() <= 100), "{}", all.out);
    let sections: Vec<&str> = all.out.lines().filter(|line| !line.starts_with(' ') && !line.is_empty()).collect();
    assert_eq!(sections, ["Faults", "Events", "Invariants", "Words of a report"]);
}

#[test]
fn a_word_is_found_in_the_singular_and_verdicts_and_exit_statuses_have_pages() {
    let bench = Bench::new();
    for (one, all) in [("fault", "faults"), ("event", "events"), ("invariant", "invariants")] {
        assert_eq!(bench.run(&["list", one]).out, bench.run(&["list", all]).out);
    }
    for word in ["verdict", "holds", "inconclusive", "violated", "exit-codes"] {
        let page = bench.run(&["explain", word]);
        assert_eq!((page.status, page.err.as_str()), (0, ""), "{word}");
        assert!(page.out.starts_with(&format!("{word}: ")), "{}", page.out);
    }
    let codes = bench.run(&["explain", "exit-codes"]).out;
    for code in ["0", "1", "2", "3", "4", "100", "101", "130"] {
        assert!(codes.lines().any(|line| line.split_whitespace().next() == Some(code)), "{code}: {codes}");
    }
}

#[test]
fn the_list_of_events_says_who_tells_each() {
    let bench = Bench::new();
    let list = bench.run(&["list", "events"]);
    for (name, who) in [("batch-synced", "server"), ("handshake-refused", "both"), ("retry", "client")] {
        let line = list.out.lines().find(|line| line.starts_with(name)).expect("listed");
        assert_eq!(line.split_whitespace().nth(1), Some(who), "{line}");
    }
    assert!(list.err.contains("at a client or a proxy"), "{}", list.err);
}

#[test]
fn a_name_that_nothing_has_is_answered_with_the_nearest() {
    let bench = Bench::new();
    let said = bench.run(&["explain", "clock-jmp"]);
    assert_eq!((said.status, said.out.as_str()), (4, ""));
    assert!(said.err.starts_with("error: nothing is called `clock-jmp`\ndid you mean `clock-jump`?"), "{}", said.err);
    assert!(!bench.run(&["explain", "\u{1b}[2J"]).err.contains('\u{1b}'));
}

#[test]
fn the_schema_is_json_and_every_shell_gets_its_completions() {
    let bench = Bench::new();
    let schema = bench.run(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&schema.out).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = bench.run(&["completions", shell]);
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{shell}");
        assert!(said.out.contains("check-determinism") && said.out.contains("explain"), "{shell}");
    }
    assert_eq!(bench.run(&["completions", "cobol"]).status, 2);
}

/// What bash offers once the words are typed and TAB is pressed.
fn completed(bench: &Bench, words: &[&str]) -> Vec<String> {
    bench.file("gapless.bash", bench.run(&["completions", "bash"]).out);
    let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
    let script = format!(
        "source gapless.bash; COMP_WORDS=({}); COMP_CWORD={}; _gapless gapless '{last}' '{before}'; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words.len() - 1,
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script]).current_dir(bench.0.path());
    let said = finish(&mut bash);
    assert_eq!((said.status, said.err.as_str()), (0, ""), "{script}");
    said.out.lines().map(str::to_owned).collect()
}

#[test]
fn a_shell_completes_what_can_be_explained_and_listed() {
    let bench = Bench::new();
    assert_eq!(completed(&bench, &["gapless", "explain", "pow"]), ["power-loss"]);
    assert_eq!(completed(&bench, &["gapless", "explain", "inconc"]), ["inconclusive"]);
    assert_eq!(completed(&bench, &["gapless", "list", "inv"]), ["invariants"]);
    assert_eq!(completed(&bench, &["gapless", "run", "--until"]), ["--until-fail"]);
    // Names that nothing has are still answered with the nearest, and help does not list two hundred values.
    let help = bench.run(&["explain", "--help"]);
    assert!(!help.out.contains("power-loss"), "{}", help.out);
}
