//! `cargo xtask demo` as people run it, but for the build: `--prepared` takes the module and the Envoy from the
//! environment.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-envoy"));
    command.args(["demo", "--prepared"]).args(arguments);
    command
}

/// What it printed, and on standard error.
fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_story_is_told_and_leaves_nothing_behind() {
    let output = demo(&[]).output().unwrap();
    let (out, errors) = texts(&output);
    assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "{out}");
    for told in
        ["1. ", "2. ", "3. ", "4. ", "5. ", "poll 1: GET /v1/test-workflow-executions", "All five steps"]
    {
        assert!(out.contains(told), "{told}: {out}");
    }
    assert!(out.contains("##[section]Testrelay: succeeded."), "{out}");
    assert!(out.contains("TaskCompleted, result \"succeeded\" (204)"), "{out}");
    assert!(out.contains("bytes of results/junit.xml are the ones"), "{out}");
    assert!(!out.contains('\u{1b}'), "colours without a terminal: {out}");
    assert_gone(&out);
}

#[test]
fn a_failing_test_is_a_story_too() {
    let output = demo(&["--fail"]).output().unwrap();
    let (out, errors) = texts(&output);
    assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("##[error]Testrelay: failed."), "{out}");
    assert!(out.contains("shop-e2e-1 failed") && out.contains("shop-4001 › checkout"), "{out}");
    assert!(out.contains("TaskCompleted, result \"failed\" (204)"), "{out}");
}

#[test]
fn every_sabotage_is_noticed_and_its_step_is_named() {
    let cases = [
        ("tag", "step 4 of 5, \"The decision\"", "No execution tagged ado-run=shop-4001 appeared"),
        (
            "callback",
            "step 4 of 5, \"The decision\"",
            "waited 8 s in vain for an event that Azure DevOps accepts",
        ),
        (
            "artifact",
            "step 5 of 5, \"The artifact\"",
            "of results/junit.xml is not the one that the test wrote",
        ),
        (
            "testkube",
            "the preflight does not find all in order",
            "testkube: failed: the answer is not that of Testkube, but an answer that is not JSON",
        ),
        (
            "azure-devops",
            "the preflight does not find all in order",
            "azure_devops[0]: failed: HTTP 404: no such organisation or collection is there. Compare `url`",
        ),
        (
            "clock",
            "the preflight does not find all in order",
            "clock: warning: Testkube's clock is 1h behind Envoy's, which is more than checks.clock_skew allows for",
        ),
    ];
    let started = cases.map(|case| {
        let mut command = demo(&["--sabotage", case.0]);
        (case, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    });
    for ((sabotage, step, why), child) in started {
        let output = child.wait_with_output().unwrap();
        let (out, errors) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{sabotage}: {out}{errors}");
        assert!(errors.contains(step) && errors.contains(why), "{sabotage}: {errors}");
        assert_gone(&out);
    }
}

#[test]
fn what_is_kept_can_be_tried_until_ctrl_c_ends_all_of_it() {
    let mut demo = Running::start(&["--keep"]);
    let told = demo.read_until("Ctrl-C ends everything.");
    for (what, wanted) in [
        ("# does the module live?", "HTTP/1.1 200"),
        ("# does it take checks?", "HTTP/1.1 200"),
        ("# the artifact", "<testsuite name=\"shop-4001\""),
        ("# what Testkube has", "\"shop-e2e-1\""),
        ("# what Azure DevOps shows of the check", "\"result\":\"succeeded\""),
        ("# a new check", "\"status\":\"accepted\""),
    ] {
        let answer = paste(&told, what);
        assert!(answer.contains(wanted), "{what}: {answer}");
    }
    let second = demo.read_until("Ctrl-C ends everything.");
    let unwrapped = second.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(unwrapped.contains("All 2 executions tagged ado-run=shop-4002 passed"), "{second}");
    let third = paste(&second, "# a new check");
    assert!(third.contains("\"status\":\"accepted\""), "{third}");

    assert!(is_there(&told), "{told}");
    assert_eq!(demo.end(Signal::INT), Some(130));
    assert_gone(&told);
}

#[test]
fn ctrl_c_in_the_middle_of_the_story_ends_all_of_it() {
    let mut demo = Running::start(&[]);
    let told = demo.read_until("2. ");
    assert!(is_there(&told), "{told}");
    assert_eq!(demo.end(Signal::TERM), Some(128 + 15));
    assert_gone(&told);
}

/// A demo that is read while it runs. It is killed with the test.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let mut child = demo(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }

    /// What it prints, to the end of the line with `text`.
    fn read_until(&mut self, text: &str) -> String {
        let mut told = String::new();
        while self.out.read_line(&mut told).unwrap() > 0 {
            if told.lines().next_back().is_some_and(|line| line.contains(text)) {
                return told;
            }
        }
        panic!("it ended without {text:?}: {told}");
    }

    /// Sends a signal; the exit code.
    fn end(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.out.read_to_end(&mut Vec::new()).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the command under a heading, as a shell does that it is pasted into.
fn paste(told: &str, heading: &str) -> String {
    let after = told.split_once(heading).unwrap_or_else(|| panic!("no {heading}: {told}")).1;
    let command: Vec<&str> = after.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", &command.join("\n")]).env("no_proxy", "*").env("NO_PROXY", "*");
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Envoy's process, and the addresses of the three, as the story names them.
fn named(told: &str) -> (Pid, Vec<SocketAddr>) {
    let line = |begin: &str| told.lines().find_map(|line| line.trim().strip_prefix(begin)).unwrap();
    let words = |begin: &str| line(begin).split([' ', ',', ';']).filter(|word| !word.is_empty());
    let process = words("Envoy + Testrelay").skip_while(|word| *word != "process").nth(1).unwrap();
    let begins = ["Azure DevOps (fake)", "Envoy + Testrelay", "Testkube (fake)"];
    let addresses = begins.map(|begin| words(begin).next().unwrap().parse().unwrap());
    (Pid::from_raw(process.parse().unwrap()).unwrap(), addresses.to_vec())
}

fn is_there(told: &str) -> bool {
    let (process, addresses) = named(told);
    test_kill_process(process).is_ok() && addresses.iter().all(|at| TcpStream::connect(at).is_ok())
}

fn assert_gone(told: &str) {
    let (process, addresses) = named(told);
    let end = Instant::now() + Duration::from_secs(5);
    while test_kill_process(process).is_ok() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(test_kill_process(process).is_err(), "Envoy's process is still there");
    for address in addresses {
        assert!(TcpStream::connect(address).is_err(), "something still listens at {address}");
    }
}
