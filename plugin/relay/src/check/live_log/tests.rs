use super::*;
use crate::check::tests::record;
use crate::check::{Record, State};

#[test]
fn a_time_that_has_passed_is_kept_until_it_was_served() {
    let Record { state: State::Pending(pending), .. } = record(1) else { panic!("a pending record") };
    let run = RunWatch::of(&Callback { timeline: None, build: None, ..pending.callback });
    let times = LiveLog { sent: Mono(10_000), due: Mono(16_000), acted: Mono(10_100), ..LiveLog::default() };
    let mut log = LiveLog { run, ..times };
    for now in [16_000, 16_001, 17_500] {
        assert_eq!(log.wakes(Mono(now)), Some(Mono(now + 1)));
    }
    log.acted = Mono(17_500);
    assert_eq!(log.wakes(Mono(17_500)), None, "there was nothing to tell");
}
