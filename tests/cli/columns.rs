//! Results in narrow and in wide terminals.

use super::*;

#[test]
fn results_are_laid_out_for_the_columns_that_there_are() {
    let bench = Bench::new();
    bench.file("a.toml", hopeless());
    bench.file("wrong.toml", format!("{QUICK}\nafter = \"the other step that nobody has written down anywhere\"\n"));
    let narrow = |arguments: &[&str], columns: &str| finish(bench.command(arguments).env("COLUMNS", columns)).out;
    let pasted = |line: &str| {
        line.trim_start().starts_with("reproduce ") || line.contains("gapless explain ") || line.contains("hash ")
    };
    for columns in [40, 60, 80] {
        for arguments in [
            &["run", "a.toml"][..],
            &["run", "a.toml", "--seeds", "0..3"],
            &["run", "a.toml", "--verbose"],
            &["replay", "a.toml"],
            &["list", "events"],
            &["explain"],
            &["explain", "power-loss"],
            &["explain", "exit-codes"],
            &["explain", "acked-durable"],
            &["check", "a.toml"],
            &["check", "wrong.toml"],
        ] {
            let out = narrow(arguments, &columns.to_string());
            for line in out.lines().filter(|line| !pasted(line)) {
                assert!(line.chars().count() <= columns, "{columns} columns: {arguments:?}: {line}\n{out}");
            }
        }
    }
    assert_eq!(narrow(&["explain", "pause"], "1000"), bench.run(&["explain", "pause"]).out, "100 are enough");
    assert_eq!(narrow(&["explain", "pause"], "many"), bench.run(&["explain", "pause"]).out);
}

#[test]
fn why_a_run_failed_is_wrapped_and_said_to_its_end() {
    let bench = Bench::new();
    bench.file("a.toml", QUICK);
    let command = &mut bench.command(&["run", "a.toml", "--report", "/proc"]);
    let said = finish(command.env("COLUMNS", "60"));
    assert_eq!(said.status, 1, "{}", said.out);
    assert!(
        said.out.lines().filter(|line| !line.contains("again:")).all(|line| line.chars().count() <= 60),
        "{}",
        said.out
    );
    let words: String = said.out.split_whitespace().collect();
    assert!(words.contains("/proc/a-0.history.jsonl") && words.contains("FAILED"), "{}", said.out);
}
