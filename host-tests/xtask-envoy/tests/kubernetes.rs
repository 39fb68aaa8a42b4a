//! `cargo xtask kubernetes` and a short `cargo xtask chaos`, as people run them. Nothing is built here: where `KUBEBUILDER_ASSETS`
//! names no programs, one line says so, and there is no test.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench::scale::report::table;
use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use xtask_envoy::bench::store::{self, Plan};
use xtask_envoy::demo::Programs;

fn main() {
    let mut trials = Vec::new();
    if kubernetes::programs().is_some() {
        let tests: [(&str, fn()); 5] = [
            (
                "a_command_finds_the_server_by_its_variables_and_its_exit_code_counts",
                a_command_finds_the_server,
            ),
            ("a_signal_ends_all_of_it_whether_there_is_a_command_or_not", a_signal_ends_all_of_it),
            ("a_command_that_is_not_there_leaves_nothing", a_command_that_is_not_there),
            ("the_bench_of_the_store_gives_all_its_figures", every_row_gives_its_figures),
            ("two_replicas_of_three_are_killed_one_is_replaced_and_no_check_is_lost", no_check_is_lost),
        ];
        let trial = |(name, test): (&str, fn())| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
        };
        trials.extend(tests.map(trial));
    } else {
        println!("no real API server: KUBEBUILDER_ASSETS is not set");
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-envoy"));
    command.arg("kubernetes").args(arguments);
    command
}

/// What stands behind a word at the beginning of a line.
fn told<'a>(text: &'a str, begin: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(begin));
    line.unwrap_or_else(|| panic!("no {begin}: {text}")).trim()
}

/// Neither the two processes nor their folder are there.
fn assert_gone(text: &str) {
    let numbers = told(text, "processes").split([' ', ',']).filter_map(|word| word.parse().ok());
    let processes: Vec<Pid> = numbers.filter_map(Pid::from_raw).collect();
    assert_eq!(processes.len(), 2, "{text}");
    let end = Instant::now() + Duration::from_secs(10);
    while processes.iter().any(|process| test_kill_process(*process).is_ok()) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(processes.iter().all(|process| test_kill_process(*process).is_err()), "still there: {text}");
    let folder = Path::new(told(text, "CA file")).parent().unwrap();
    assert!(!folder.exists(), "{} is still there", folder.display());
}

fn a_command_finds_the_server() {
    let script = "curl --silent --noproxy '*' --cacert \"$KUBERNETES_CA_FILE\" \
                  -H \"Authorization: Bearer $(cat \"$KUBERNETES_TOKEN_FILE\")\" \
                  \"$KUBERNETES_URL/api/v1/namespaces/$KUBERNETES_NAMESPACE/secrets\"; test -s \"$KUBECONFIG\" && exit 7";
    let output = command(&["--namespace", "shop", "--", "sh", "-c", script]).output().unwrap();
    let (out, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), errors.as_str()), (Some(7), ""), "{out}");
    assert!(out.contains("\"kind\": \"SecretList\"") || out.contains("\"kind\":\"SecretList\""), "{out}");
    assert_eq!(told(&out, "namespace"), "shop");
    assert_gone(&out);
}

fn a_signal_ends_all_of_it() {
    for (arguments, signal, code) in
        [(vec![], Signal::INT, 130), (vec!["--", "sleep", "600"], Signal::TERM, 143)]
    {
        let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("\nprocesses ") && out.read_line(&mut text).unwrap() > 0 {}
        kill_process(Pid::from_child(&child), signal).unwrap();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{text}");
        assert_gone(&text);
    }
}

fn a_command_that_is_not_there() {
    let output = command(&["--", "/nowhere/at/all"]).output().unwrap();
    let (out, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(errors.contains("/nowhere/at/all"), "{errors}");
    assert_gone(&out);
}

fn every_row_gives_its_figures() {
    let programs = Programs::from_environment().unwrap();
    let plan = Plan {
        rounds: 1,
        at_once: 32,
        one_by_one: 5,
        moved: 3,
        age: Duration::from_secs(2),
        updated: 1,
        window: Duration::from_secs(3),
        // Their end takes ten minutes.
        lives: 0,
    };
    let lines = store::measure(&programs, &kubernetes::programs().unwrap(), &plan, |_| {}).unwrap();
    let text = table(&lines);
    assert!(lines.iter().all(|line| line.measured.is_finite()), "{text}");
    for what in ["API server's own rate", "one by one: p50", "idle", "starts again", "SIGKILL", "roll-out"] {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert_eq!(lines.iter().filter(|line| line.bound.is_some()).count(), 6, "{text}");
}

fn no_check_is_lost() {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_xtask-envoy"));
    chaos.args(["chaos", "--prepared", "--checks", "60", "--kills", "2", "--outages", "0", "--updated", "1"]);
    let output = chaos.output().unwrap();
    let (out, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out}{errors}");
    // Else it has shown nothing.
    for (what, figure) in [("| kills ", "2 |"), ("| answered 200 ", "60 |"), ("| replicas drained", "1 |")] {
        assert!(told(&out, what).ends_with(&format!(" {figure}")), "{out}");
    }
}
