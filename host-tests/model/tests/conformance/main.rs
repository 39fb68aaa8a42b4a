//! The checker takes what the model does, and refuses what it does not.

mod recorder;

use model::bounds::{IN_TESTS, NOTHING, one_check};
use model::conformance::{conforms, conforms_to_the_end};
use model::environment::Left;
use model::events::{Event, parse};
use model::faults::Fault;
use model::model::{Bounds, Model, Step};
use model::search::shortest;
use recorder::Recorder;

/// The same numbers in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

fn lines(events: &[Event]) -> String {
    let lines = events.iter().enumerate();
    lines.map(|(at, event)| format!("{at}: {}\n", serde_json::to_string(event).unwrap())).collect()
}

/// A run of the model, by lot, to its end.
fn run(bounds: Bounds, seed: u64) -> Vec<Event> {
    // The checker knows "proven" always.
    let model = Model { is_reduced: false, ..Model::new(Bounds { has_proof: true, ..bounds }) };
    let mut dice = Dice(seed);
    let mut recorder = Recorder::new(model);
    let mut steps = Vec::new();
    loop {
        model.steps(&recorder.system, &mut steps);
        steps.retain(|&step| model.after(&recorder.system, step) != recorder.system);
        let (must, may): (Vec<Step>, Vec<Step>) = steps.iter().partition(|step| step.must_happen());
        let from = if may.is_empty() || (!must.is_empty() && dice.below(4) > 0) { must } else { may };
        if from.is_empty() {
            return recorder.events;
        }
        recorder.go(from[dice.below(from.len())]);
    }
}

#[test]
fn what_the_model_does_is_a_path_of_it() {
    let mut recorded = 0;
    for search in IN_TESTS {
        for seed in 0..200 {
            let events = run(search.bounds, seed);
            recorded += events.len();
            if let Err(divergence) = conforms_to_the_end(&events) {
                panic!("{}, seed {seed}: {divergence}\n{}", search.name, lines(&events));
            }
        }
    }
    println!("{recorded} events");
}

/// The shortest run with a fault that breaks a rule, recorded.
fn faulty(faults: &'static [Fault], left: Left) -> Vec<Event> {
    let bounds = Bounds { has_proof: true, ..one_check(2, left) };
    let found = shortest(&Model::with(bounds, faults), 1_000_000, None).found.expect("the fault is found");
    let mut recorder = Recorder::new(Model::with(bounds, faults));
    found.steps.into_iter().for_each(|step| recorder.go(step));
    recorder.events
}

#[test]
fn what_a_fault_does_is_no_path_of_the_model_or_no_end() {
    let late = Left { late_expiries: 1, ..NOTHING };
    let again = Left { redeliveries: 1, ..NOTHING };
    let crash = Left { crashes: 1, ..NOTHING };
    let drain = Left { drains: 1, lost_answers: 1, ..NOTHING };
    let hot = Left { hot_restarts: 1, ..NOTHING };
    let many = Left { crashes: 1, lost_answers: 1, redeliveries: 1, ..late };
    let found: [(&'static [Fault], Left); 19] = [
        (&[Fault::NoFence], late),
        (&[Fault::AdoptBlind], late),
        (&[Fault::MergeBlind], again),
        (&[Fault::DoneBlind], again),
        (&[Fault::DeleteBlind], Left { redeliveries: 1, ..crash }),
        (&[Fault::OwnRecordKept], again),
        (&[Fault::NoOwnerCheck], many),
        (&[Fault::DecideAgain], crash),
        (&[Fault::NoOwnSweep], Left { lost_answers: 1, ..NOTHING }),
        (&[Fault::NoSweep], Left { lost_answers: 1, ..crash }),
        (&[Fault::EndUnserved], again),
        (&[Fault::DeliveryNotRaised], again),
        (&[Fault::LeaseAfterAccepting], NOTHING),
        (&[Fault::NoDone], late),
        (&[Fault::TwoExchanges], NOTHING),
        (&[Fault::OneEventADecision], Left { redeliveries: 1, ..crash }),
        (&[Fault::DrainForgetsServed], drain),
        (&[Fault::DrainSends], drain),
        (&[Fault::SameNameBothWays], hot),
    ];
    for (faults, left) in found {
        let events = faulty(faults, left);
        match conforms_to_the_end(&events) {
            Ok(()) => panic!("{faults:?} is not noticed:\n{}", lines(&events)),
            Err(divergence) => println!("{faults:?}: {divergence}"),
        }
    }
}

/// The recordings in a folder: name and text.
fn recordings(folder: &str) -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(folder);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> =
        files.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect();
    all.sort();
    all
}

#[test]
fn good_recordings_are_paths_to_an_end() {
    let all = recordings("good");
    assert!(!all.is_empty());
    for (name, text) in all {
        if let Err(divergence) = conforms_to_the_end(&parse(&text).unwrap()) {
            panic!("{name}: {divergence}");
        }
    }
}

#[test]
fn bad_recordings_leave_the_model_at_the_event_that_they_name() {
    let all = recordings("bad");
    assert!(!all.is_empty());
    for (name, text) in all {
        let named = text.lines().find_map(|line| line.strip_prefix("# does not fit: ")).unwrap();
        let divergence = conforms(&parse(&text).unwrap()).expect_err(&name);
        println!("{name}: {divergence}");
        assert_eq!(divergence.at.to_string(), named, "{name}: {divergence}");
    }
}
