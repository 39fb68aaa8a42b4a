//! `cargo run --release -p testrelay-model`: searches the protocol within all bounds that it is said to hold in, one after
//! the other, and prints a row of the table in the crate's README for each. `-- WORDS` runs those whose names have these
//! words. Exit code 1 when a rule is broken.

use std::process::ExitCode;

use model::bounds::{IN_FULL, IN_TESTS, Search};
use model::model::Model;
use model::search::{Report, exhaust};
use model::timed::{Span, search};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words = words.join(" ");
    println!("| search | states | steps | ends | longest run | seconds |");
    println!("|---|---|---|---|---|---|");
    let mut holds = true;
    for of in IN_TESTS.iter().chain(IN_FULL).filter(|of| of.name.contains(&words)) {
        holds &= run(of);
    }
    if "timed".contains(&words) {
        holds &= timed();
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(of: &Search) -> bool {
    let model = Model { is_reduced: !of.is_whole, ..Model::new(of.bounds) };
    let Report { states, steps, ends, depth, took, found } = exhaust(&model, None, |states| {
        eprintln!("{}: {states} states …", of.name);
    });
    println!("| {} | {states} | {steps} | {ends} | {depth} | {:.1} |", of.name, took.as_secs_f64());
    if let Some(found) = &found {
        eprintln!("{}: {}", of.name, found.broken);
        for step in &found.steps {
            eprintln!("    {step:?}");
        }
    }
    found.is_none()
}

/// The timed model, with more partition than the tests have.
fn timed() -> bool {
    let span = Span {
        others: 2,
        cut_seconds: 12,
        outage_seconds: 0,
        second_death: false,
        same_pod_restart: false,
        hints: true,
        slip: None,
    };
    let began = std::time::Instant::now();
    let timing = search(&span);
    println!("| timed: 12 s of partition | {} | | | | {:.1} |", timing.states, began.elapsed().as_secs_f64());
    eprintln!("{timing:?}");
    !timing.taken_from_the_living && timing.longest_adoption <= 35
}
