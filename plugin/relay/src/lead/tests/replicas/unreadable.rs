//! Records that a replica cannot read: edited, written by a newer module, or sealed.

use super::*;

const HOUR: u64 = 60 * MINUTE;

/// A check of replica 0, with a deadline in two hours, whose tests never end.
fn waiting() -> (Replicas, Run) {
    let mut world = Replicas::new(2);
    world.headers = &[("testrelay-timeout", "2h")];
    let run = world.run(1, 10 * HOUR as i64, Status::Passed);
    assert_eq!(world.accept(0, &run), 200);
    world.pass(10 * SECOND);
    (world, run)
}

fn as_of_a_newer_module(record: &str) -> String {
    let mut record: Value = serde_json::from_str(record).unwrap();
    record["format"] = 9.into();
    record["state"]["pending"]["phase"] = serde_json::json!({"pondering": {}});
    record.to_string()
}

#[test]
fn an_owner_writes_a_record_again_that_somebody_has_edited() {
    for edited in ["", "{}", "not JSON", r#"{"format":9}"#] {
        let mut world = Replicas::new(2);
        let run = world.run(1, 60_000, Status::Passed);
        assert_eq!(world.accept(0, &run), 200);
        world.pass(10 * SECOND);
        world.edit(|_| edited.to_owned());
        world.pass(2 * MINUTE);
        assert_eq!(world.events(&run), (vec!["succeeded".into()], 1), "`{edited}`");
        world.pass(12 * MINUTE);
        assert_eq!(world.secrets().len(), 0, "`{edited}`");
    }
}

#[test]
fn a_dead_replicas_check_that_a_newer_module_wrote_waits_for_one_and_is_else_reported_before_its_deadline() {
    let (mut world, run) = waiting();
    world.edit(as_of_a_newer_module);
    world.kill(0);
    world.pass(2 * HOUR - 17 * MINUTE);
    assert_eq!((world.pending(1), world.events(&run).1), (0, 0), "another may be able to read it");
    let (_, list) = world.list(1, None);
    assert_eq!(list["checks"][0]["tag"], format!("ado-run={}", run.tag), "as its owner has shown it");
    world.pass(11 * MINUTE);
    assert_eq!(world.events(&run), (vec!["failed".into()], 1));
    let (_, list) = world.list(1, None);
    assert_eq!(list["checks"][0]["code"], "record_unreadable");
    world.pass(15 * MINUTE);
    assert_eq!(world.secrets().len(), 0);
}

#[test]
fn a_record_of_which_nothing_remains_is_deleted_a_day_after_its_token_has_ended() {
    let (mut world, run) = waiting();
    world.edit(|_| "{}".into());
    world.kill(0);
    world.pass(40 * HOUR);
    assert_eq!((world.secrets().len(), world.events(&run).1), (1, 0));
    world.pass(34 * HOUR);
    assert_eq!((world.secrets().len(), world.leases()), (0, 1));
}

#[test]
fn what_a_newer_module_has_decided_is_not_decided_again() {
    let (mut world, run) = waiting();
    world.edit(|record| as_of_a_newer_module(record).replace("pondering", "decided"));
    world.kill(0);
    world.pass(3 * HOUR);
    assert_eq!(world.events(&run).1, 0);
}

#[test]
fn replicas_with_one_key_take_over_each_others_checks_and_nobody_reads_a_token() {
    let mut world = Replicas::new(0);
    world.seal = r#", "seal_env": "KEY_A""#;
    let (first, second) = (world.start("pod-a"), world.start("pod-b"));
    world.pass(20 * SECOND);
    let run = world.run(1, 60_000, Status::Passed);
    assert_eq!(world.accept(first, &run), 200);
    world.pass(3 * SECOND);
    let secret = &world.secrets()[0];
    let record = base64(&secret["data"]["record"]);
    assert!(record.starts_with(b"sealed") && !contains(&record, run.token.as_bytes()));
    world.kill(first);
    world.pass(3 * MINUTE);
    assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
    assert_eq!(world.counted(second, Counter::Adopted), 1);
}

#[test]
fn a_key_is_changed_in_three_roll_outs_and_no_check_is_lost() {
    let keys = [
        "",
        r#", "seal_env": "KEY_A""#,
        r#", "seal_env": "KEY_A", "seal_env_previous": "KEY_B""#,
        r#", "seal_env": "KEY_B", "seal_env_previous": "KEY_A""#,
        r#", "seal_env": "KEY_B""#,
    ];
    for (old, new) in keys.iter().zip(&keys[1..]) {
        let mut world = Replicas::new(0);
        world.seal = old;
        let first = world.start("pod-0");
        world.pass(20 * SECOND);
        let run = world.run(1, 3 * MINUTE as i64, Status::Passed);
        assert_eq!(world.accept(first, &run), 200);
        world.seal = new;
        let second = world.start("pod-1");
        world.pass(20 * SECOND);
        let late = world.run(2, 3 * MINUTE as i64, Status::Passed);
        assert_eq!(world.accept(second, &late), 200);
        world.drain(first);
        world.pass(5 * SECOND);
        world.kill(first);
        world.pass(5 * MINUTE);
        for run in [&run, &late] {
            assert_eq!(world.events(run), (vec!["succeeded".into()], 1), "{old} to {new}");
        }
    }
}

#[test]
fn a_check_that_is_sealed_with_another_key_is_listed_and_kept() {
    let mut world = Replicas::new(0);
    world.seal = r#", "seal_env": "KEY_A""#;
    let first = world.start("pod-0");
    world.seal = r#", "seal_env": "KEY_B""#;
    let second = world.start("pod-1");
    world.pass(20 * SECOND);
    let run = world.run(1, 60_000, Status::Passed);
    assert_eq!(world.accept(first, &run), 200);
    world.kill(first);
    world.pass(HOUR);
    assert_eq!((world.secrets().len(), world.pending(second)), (1, 0));
    let (_, list) = world.list(second, None);
    assert_eq!((&list["checks"][0]["replica"], list["checks"].as_array().unwrap().len()), (&Value::Null, 1));
    // Azure DevOps sends it again, as after a loss of its answer.
    assert_eq!(world.accept(second, &run), 503);
    // Its key comes back.
    world.seal = r#", "seal_env": "KEY_B", "seal_env_previous": "KEY_A""#;
    world.start("pod-2");
    world.pass(15 * MINUTE);
    assert_eq!(world.events(&run), (vec!["succeeded".into()], 1));
}

fn base64(value: &Value) -> Vec<u8> {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
