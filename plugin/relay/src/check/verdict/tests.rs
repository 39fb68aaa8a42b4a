use super::*;
use crate::wire::testkube::Actor;

fn execution(name: &str, status: &str, at: i64) -> Execution {
    let (workflow, number) = name.rsplit_once('-').unwrap();
    let status = match status {
        "passed" => Status::Passed,
        "failed" => Status::Failed,
        "canceled" => Status::Canceled,
        other => Status::NotYet(other.into()),
    };
    Execution {
        id: format!("id-{name}"),
        name: name.into(),
        workflow: workflow.into(),
        number: number.parse().unwrap(),
        scheduled: Wall(at),
        ended: !matches!(status, Status::NotYet(_)),
        finished: (!matches!(status, Status::NotYet(_))).then_some(Wall(at + 50)),
        status,
        tags: BTreeMap::from([("ado-run".into(), "x-1".into())]),
        actor: Actor { kind: "testworkflowexecution".into(), name: format!("cr-{name}"), ..Actor::default() },
        began: true,
        stopping_since: None,
        message: None,
        took: None,
        steps: crate::wire::testkube::Steps::default(),
        reports: None,
    }
}

fn read<'a>(executions: &'a [Execution], expect: &str) -> Assessment<'a> {
    let tag = Tag { key: "ado-run".into(), value: "x-1".into() };
    assess(
        executions,
        &Rules { expect: &Expect::parse(expect).unwrap(), ..Rules::of_tag(&tag, Wall(100), Rerun::Latest) },
    )
}

fn standing(executions: &[Execution], expect: &str) -> Standing {
    read(executions, expect).standing()
}

const PASSED: Standing = Standing::Ended { passed: true };
const FAILED: Standing = Standing::Ended { passed: false };

#[test]
fn every_member_must_pass_named_or_not() {
    let (a, b) = (execution("a-1", "passed", 200), execution("b-1", "passed", 201));
    assert_eq!(standing(&[a.clone(), b.clone()], "a, b"), PASSED);
    assert_eq!(standing(&[a.clone(), execution("b-1", "failed", 201)], "a"), FAILED);
    assert_eq!(standing(&[a.clone(), execution("b-1", "canceled", 201)], "a"), FAILED);
    assert_eq!(standing(&[a.clone(), execution("b-1", "running", 201)], "a"), Standing::Running);
    assert_eq!(standing(&[a.clone(), execution("b-1", "purple", 201)], ""), Standing::Running);
    assert_eq!(standing(&[a], "a, b"), Standing::Incomplete);
}

#[test]
fn zero_executions_are_never_enough() {
    assert_eq!(standing(&[], ""), Standing::Incomplete);
    assert_eq!(standing(&[execution("a-1", "passed", 99)], ""), Standing::Incomplete);
}

#[test]
fn an_execution_with_another_tag_is_not_even_named() {
    let mut other = execution("a-1", "failed", 200);
    other.tags.insert("ado-run".into(), "x-12".into());
    let all = [other, execution("b-1", "passed", 200)];
    let read = read(&all, "");
    assert_eq!((read.standing(), read.ignored.len()), (PASSED, 0));
}

/// `execution` as a child: its actor's type, and its ancestors' names, the nearest first.
fn child(execution: Execution, kind: &str, ancestors: &[&str]) -> Execution {
    let actor = Actor {
        kind: kind.into(),
        name: "Git Integration".into(),
        reference: String::new(),
        is_child: true,
        ancestors: ancestors.iter().map(|name| format!("id-{name}")).collect(),
    };
    Execution { actor, ..execution }
}

#[test]
fn children_are_judged_through_their_parent() {
    for kind in ["testworkflow", "gitintegration", "testworkflowexecution"] {
        let failed = child(execution("c-1", "failed", 300), kind, &["a-1"]);
        let all = [execution("a-1", "passed", 200), failed];
        let read = read(&all, "a");
        assert_eq!(read.standing(), PASSED, "{kind}");
        assert_eq!(read.ignored_in_words(), " Not counted: c-1 (started by another workflow).");
    }
}

#[test]
fn a_child_of_a_child_is_judged_through_the_nearest_ancestor_that_is_there() {
    let parent = execution("a-1", "passed", 200);
    let between = child(execution("b-1", "failed", 300), "testworkflow", &["a-1"]);
    let grandchild = child(execution("c-1", "failed", 400), "testworkflow", &["b-1", "a-1"]);
    assert_eq!(standing(&[parent.clone(), between, grandchild.clone()], "a"), PASSED);
    assert_eq!(standing(&[parent, grandchild], "a"), PASSED, "the one between them has another tag");
}

#[test]
fn a_child_whose_parent_is_not_there_counts() {
    let passed = execution("a-1", "passed", 200);
    for (kind, ancestors) in
        [("testworkflow", &[][..]), ("testworkflow", &["x-1"]), ("user", &["x-1", "y-1"])]
    {
        let failed = child(execution("c-1", "failed", 300), kind, ancestors);
        assert_eq!(standing(&[passed.clone(), failed], "a"), FAILED, "{kind} {ancestors:?}");
        let alone = child(execution("c-1", "passed", 300), kind, ancestors);
        assert_eq!(standing(&[alone], "c"), PASSED, "{kind} {ancestors:?}");
    }
    let mut other = execution("a-1", "passed", 200);
    other.tags.insert("ado-run".into(), "x-12".into());
    let failed = child(execution("c-1", "failed", 300), "testworkflow", &["a-1"]);
    assert_eq!(standing(&[other, failed], ""), FAILED, "its parent has another tag");
}

#[test]
fn a_child_that_names_itself_or_stands_in_a_circle_counts() {
    let passed = execution("a-1", "passed", 200);
    let itself = child(execution("c-1", "failed", 300), "testworkflow", &["c-1"]);
    assert_eq!(standing(&[passed.clone(), itself], ""), FAILED);
    let hidden = child(execution("c-1", "failed", 300), "testworkflow", &["a-1", "c-1"]);
    assert_eq!(standing(&[passed.clone(), hidden], ""), FAILED);
    let names = ["b-1", "c-1", "d-1"];
    for size in 2..=3 {
        let circle = (0..size).map(|n| {
            let status = if n == 1 { "failed" } else { "passed" };
            child(execution(names[n], status, 300), "testworkflow", &[names[(n + 1) % size]])
        });
        let mut all: Vec<Execution> = circle.chain([passed.clone()]).collect();
        assert_eq!(standing(&all, ""), FAILED, "a circle of {size}");
        // An execution attached to a circle has a parent that counts.
        all.push(child(execution("e-1", "failed", 400), "testworkflow", &["b-1"]));
        let read = read(&all, "");
        assert_eq!((read.counted.len(), read.ignored.len()), (size + 1, 1), "a circle of {size}");
    }
}

#[test]
fn a_child_of_an_older_execution_must_pass_and_is_not_what_is_expected() {
    let older = execution("a-1", "passed", 99);
    let passed = child(execution("c-1", "passed", 300), "testworkflow", &["a-1"]);
    let failed = child(execution("c-1", "failed", 300), "testworkflow", &["a-1"]);
    assert_eq!(standing(&[older.clone(), passed.clone()], ""), Standing::Incomplete);
    assert_eq!(standing(&[older.clone(), passed.clone()], "c"), Standing::Incomplete);
    let own = execution("b-1", "passed", 200);
    assert_eq!(standing(&[older.clone(), passed, own.clone()], "b"), PASSED);
    assert_eq!(standing(&[older, failed, own], "b"), FAILED);
}

#[test]
fn the_children_of_what_a_rerun_replaced_are_replaced_with_it() {
    let first = execution("a-1", "failed", 200);
    let part = child(execution("c-1", "failed", 250), "testworkflow", &["a-1"]);
    let mut again = execution("a-2", "passed", 300);
    again.actor.name = first.actor.name.clone();
    let tag = Tag { key: "ado-run".into(), value: "x-1".into() };
    let all = [first, part, again];
    let standing = |rerun| assess(&all, &Rules::of_tag(&tag, Wall(100), rerun)).standing();
    assert_eq!([Rerun::Latest, Rerun::All, Rerun::None].map(standing), [PASSED, FAILED, FAILED]);
}

#[test]
fn the_children_of_what_is_judged_through_another_are_not_waited_for() {
    let first = execution("a-1", "failed", 200);
    let part = child(execution("c-1", "running", 250), "testworkflow", &["a-1"]);
    let mut again = execution("a-2", "passed", 300);
    again.actor.name = first.actor.name.clone();
    let tag = Tag { key: "ado-run".into(), value: "x-1".into() };
    let standing = |all: &[Execution], rerun| assess(all, &Rules::of_tag(&tag, Wall(100), rerun)).standing();
    let all = [first, part, again];
    assert_eq!([Rerun::Latest, Rerun::All].map(|rerun| standing(&all, rerun)), [PASSED, FAILED]);
    // If re-runs do not count, nothing of them does.
    let [first, part, again] = all;
    let first = Execution { status: Status::Passed, ..first };
    let part = Execution { actor: Actor { ancestors: vec![again.id.clone()], ..part.actor.clone() }, ..part };
    assert_eq!(standing(&[first, part, again], Rerun::None), PASSED);
}

#[test]
fn a_child_whose_parent_repeats_it_is_judged_itself() {
    // Neither would count: one as a child of the other, and that one as its repetition.
    let failed = child(execution("a-1", "failed", 200), "testworkflow", &["a-2"]);
    let mut parent = execution("a-2", "passed", 300);
    parent.actor = Actor { kind: "user".into(), reference: failed.id.clone(), ..Actor::default() };
    let passed = execution("b-1", "passed", 200);
    let tag = Tag { key: "ado-run".into(), value: "x-1".into() };
    let all = [failed, parent, passed];
    let standing = |rerun| assess(&all, &Rules::of_tag(&tag, Wall(100), rerun)).standing();
    assert_eq!([Rerun::Latest, Rerun::All, Rerun::None].map(standing), [PASSED, PASSED, FAILED]);
}

#[test]
fn a_child_repeats_nothing() {
    // Two children of one parent have the same actor, and one may claim to repeat what counts.
    let parent = execution("a-1", "passed", 200);
    let mut failed = child(execution("c-1", "failed", 300), "testworkflowexecution", &["x-1"]);
    let mut passed = child(execution("c-2", "passed", 310), "testworkflowexecution", &["x-1"]);
    assert_eq!(standing(&[parent.clone(), failed.clone(), passed.clone()], "a"), FAILED);
    passed.actor.reference = failed.id.clone();
    assert_eq!(standing(&[parent.clone(), failed.clone(), passed.clone()], "a"), FAILED);
    passed.actor.ancestors = vec![parent.id.clone()];
    failed.actor = Actor { kind: "user".into(), ..Actor::default() };
    assert_eq!(standing(&[parent, failed, passed], "a"), FAILED);
}

#[test]
fn a_person_may_repeat_a_child_that_counts() {
    let failed = child(execution("c-1", "failed", 300), "testworkflow", &[]);
    let mut again = execution("c-2", "passed", 400);
    again.actor = Actor { kind: "user".into(), reference: failed.id.clone(), ..Actor::default() };
    assert_eq!(standing(&[failed, again], "c"), PASSED);
}

/// The rules, written as they are stated: each execution is compared with each other one.
fn said(all: &[Execution], bound: Wall, rerun: Rerun) -> Vec<&str> {
    let mut own: Vec<&Execution> = all.iter().filter(|e| e.scheduled >= bound).collect();
    own.sort_by_key(|e| order(e));
    let repeats = |later: &Execution, earlier: &Execution| {
        let same = later.actor.kind == "testworkflowexecution"
            && earlier.actor.kind == "testworkflowexecution"
            && !earlier.actor.is_child
            && later.actor.name == earlier.actor.name;
        let alike = !later.actor.reference.is_empty()
            && !earlier.actor.is_child
            && later.actor.reference == earlier.actor.reference;
        let is_proved = same || alike || later.actor.reference == earlier.id;
        !later.actor.is_child
            && order(later) > order(earlier)
            && later.workflow == earlier.workflow
            && is_proved
    };
    let other = |e: &Execution| -> Option<&Execution> {
        match rerun {
            Rerun::Latest => own.iter().rev().find(|later| repeats(later, e)).copied(),
            Rerun::All => None,
            Rerun::None => {
                own.iter().find(|earlier| repeats(e, earlier)).copied().filter(|_| e.scheduled >= bound)
            }
        }
    };
    let parent = |e: &Execution| -> Option<&Execution> {
        let names_itself = e.actor.ancestors.contains(&e.id);
        let mut ancestors = e.actor.ancestors.iter().filter(|_| !names_itself);
        ancestors.find_map(|id| all.iter().find(|other| other.id == *id))
    };
    let judged_through = |e: &Execution| other(e).or_else(|| parent(e));
    let is_part = |e: &&Execution| {
        let mut above = judged_through(e);
        for _ in all {
            if above.is_some_and(|above| above.id == e.id) {
                return false;
            }
            above = above.and_then(judged_through);
        }
        parent(e).is_some_and(|parent| parent.scheduled >= bound)
    };
    let counted: Vec<&Execution> =
        own.iter().filter(|e| other(e).is_none() && !is_part(e)).copied().collect();
    for e in &own {
        let mut at = *e;
        for _ in all {
            if !counted.iter().any(|one| one.id == at.id) {
                at = judged_through(at).unwrap_or(at);
            }
        }
        assert!(counted.iter().any(|one| one.id == at.id), "nobody is judged in the place of {}", e.id);
    }
    counted.into_iter().map(|e| e.id.as_str()).collect()
}

#[test]
fn the_counted_set_is_the_one_that_the_rules_say() {
    let mut random = crate::backoff::Random::new(4711);
    let mut draw = move |below: u64| usize::try_from(random.draw() % below).unwrap();
    for round in 0..2_000 {
        let names: Vec<String> = (1..=8).map(|n| format!("{}-{n}", ["a", "b"][draw(2)])).collect();
        let all: Vec<Execution> = names
            .iter()
            .map(|name| {
                let at = i64::try_from(80 + 20 * draw(6)).unwrap();
                let mut execution = execution(name, ["passed", "failed"][draw(2)], at);
                execution.actor.name = format!("cr-{}", draw(4));
                let other = |n: usize| names.get(n).map_or("x-1", String::as_str);
                match draw(4) {
                    0 => execution.actor.reference = format!("id-{}", other(draw(9))),
                    1 => {
                        let ancestors = [draw(9), draw(9)].map(other);
                        execution = child(execution, "testworkflow", &ancestors[..draw(3)]);
                    }
                    _ => {}
                }
                execution
            })
            .collect();
        let tag = Tag { key: "ado-run".into(), value: "x-1".into() };
        for rerun in [Rerun::Latest, Rerun::All, Rerun::None] {
            let read = assess(&all, &Rules::of_tag(&tag, Wall(100), rerun));
            let counted: Vec<&str> = read.counted.iter().map(|e| e.id.as_str()).collect();
            assert_eq!(counted, said(&all, Wall(100), rerun), "round {round}, {rerun:?}: {all:#?}");
        }
    }
}

#[test]
fn a_rerun_replaces_what_it_provably_repeats() {
    let first = execution("a-1", "failed", 200);
    let mut by_reference = execution("a-2", "passed", 300);
    by_reference.actor = Actor { kind: "user".into(), reference: first.id.clone(), ..Actor::default() };
    assert_eq!(standing(&[first.clone(), by_reference], "a"), PASSED);
    let mut by_resource = execution("a-2", "passed", 300);
    by_resource.actor.name = first.actor.name.clone();
    let all = [by_resource, first];
    assert_eq!(read(&all, "a").ignored_in_words(), " Not counted: a-1 (failed, repeated by a-2).");
    assert_eq!(standing(&all, "a"), PASSED);
    assert_eq!(standing(&all, "a*2"), Standing::Incomplete);
}

#[test]
fn a_policy_can_count_every_run_or_only_the_first() {
    let (first, mut again) = (execution("a-1", "failed", 200), execution("a-2", "passed", 300));
    again.actor.name = first.actor.name.clone();
    let all = [again, first];
    let tag = Tag { key: "ado-run".into(), value: "x-1".into() };
    let standing = |rerun| assess(&all, &Rules::of_tag(&tag, Wall(100), rerun)).standing();
    assert_eq!(standing(Rerun::Latest), PASSED);
    assert_eq!(standing(Rerun::All), FAILED);
    assert_eq!(standing(Rerun::None), FAILED);
    let read = assess(&all, &Rules::of_tag(&tag, Wall(100), Rerun::None));
    assert_eq!(read.ignored_in_words(), " Not counted: a-2 (repeats a-1, and re-runs do not count here).");
}

#[test]
fn the_same_workflow_alone_proves_no_rerun() {
    assert_eq!(standing(&[execution("a-1", "failed", 200), execution("a-2", "passed", 300)], "a"), FAILED);
}

#[test]
fn a_rerun_never_replaces_what_came_after_it_or_another_workflow() {
    let mut late = execution("a-2", "failed", 400);
    let mut rerun = execution("a-1", "passed", 300);
    rerun.actor.reference = late.id.clone();
    assert_eq!(standing(&[late.clone(), rerun], ""), FAILED);
    late.actor.name = "same".into();
    let mut other = execution("b-9", "passed", 500);
    other.actor.name = "same".into();
    assert_eq!(standing(&[late, other], ""), FAILED);
}

#[test]
fn executions_of_one_instant_are_ordered_by_number() {
    let mut first = execution("a-9", "failed", 200);
    let mut second = execution("a-10", "passed", 200);
    first.actor.name = "cr".into();
    second.actor.name = "cr".into();
    assert_eq!(standing(&[second, first], ""), PASSED);
}

#[test]
fn the_fingerprint_changes_with_members_and_statuses_only() {
    let a = [execution("a-1", "running", 200)];
    let ended = [execution("a-1", "passed", 200)];
    let two = [execution("a-1", "passed", 200), execution("b-1", "passed", 200)];
    let swapped = [execution("b-1", "passed", 200), execution("a-1", "passed", 200)];
    let fingerprint = |all: &[Execution]| read(all, "").fingerprint();
    assert_ne!(fingerprint(&a), fingerprint(&ended));
    assert_ne!(fingerprint(&ended), fingerprint(&two));
    assert_eq!(fingerprint(&two), fingerprint(&swapped));
}

#[test]
fn what_did_not_pass_is_named_first() {
    let all = [execution("a-1", "passed", 200), execution("b-1", "failed", 300)];
    assert_eq!(read(&all, "").statuses(), "b-1 failed, a-1 passed");
}
