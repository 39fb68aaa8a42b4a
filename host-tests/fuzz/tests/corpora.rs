//! Every input that is kept for a fuzz target, once more.

use std::path::Path;

/// Runs every input of a folder below that of this package. Returns how many there are.
fn replay_below(folder: &str, run: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    inputs.sort();
    for path in &inputs {
        let input = std::fs::read(path).expect("a readable file");
        assert!(input.len() <= 16 << 10, "{} is too large to be kept", path.display());
        println!("{}", path.display());
        run(&input);
    }
    inputs.len()
}

fn replay(name: &str) {
    let target = fuzz::TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let inputs = replay_below(&format!("corpus/{name}"), target.run);
    assert!(inputs >= 8, "{inputs} inputs are no corpus");
}

#[test]
fn every_kept_check_request_keeps_the_rules() {
    replay("check_request");
}

#[test]
fn every_kept_configuration_keeps_the_rules() {
    replay("configuration");
}

#[test]
fn every_kept_answer_of_testkube_keeps_the_rules() {
    replay("testkube_answers");
}

#[test]
fn every_kept_answer_of_azure_devops_keeps_the_rules() {
    replay("azure_answers");
}

#[test]
fn every_kept_ledger_keeps_the_rules() {
    replay("ledger");
}

#[test]
fn every_kept_junit_report_keeps_the_rules() {
    replay("junit");
    // `cargo xtask fuzz` begins with them too.
    assert!(replay_below("../fakes/fixtures/junit", fuzz::junit::run) >= 20);
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for target in fuzz::TARGETS {
        assert!(
            folder.join("fuzz_targets").join(target.name).with_extension("rs").is_file(),
            "{}",
            target.name
        );
        assert!(folder.join("corpus").join(target.name).is_dir(), "{}", target.name);
    }
}
