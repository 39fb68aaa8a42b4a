//! A service behind a network: its answers take a while, and not all the same.

use std::ops::RangeInclusive;

use crate::http::{Reply, Request, Service};

/// Answers as the service does, later. The same requests in the same order have the same delays.
#[derive(Debug)]
pub struct Delayed<S> {
    /// The service.
    pub service: S,
    millis: RangeInclusive<u64>,
    random: u64,
}

impl<S> Delayed<S> {
    /// Each delay of the range, in milliseconds, is as likely as another.
    pub fn new(service: S, millis: RangeInclusive<u64>) -> Delayed<S> {
        Delayed { service, millis, random: 0x9e37_79b9_7f4a_7c15 }
    }

    fn delay(&mut self) -> u64 {
        // Xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let (from, to) = (*self.millis.start(), *self.millis.end());
        from + self.random % (to.saturating_sub(from) + 1)
    }
}

impl<S: Service> Service for Delayed<S> {
    fn handle(&mut self, now: i64, request: &Request) -> Reply {
        let reply = Box::new(self.service.handle(now, request));
        Reply::After { millis: self.delay(), reply }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Response;

    struct Fixed;

    impl Service for Fixed {
        fn handle(&mut self, _: i64, _: &Request) -> Reply {
            Response::new(204).into()
        }
    }

    #[test]
    fn every_delay_of_the_range_occurs_and_no_other() {
        let mut delayed = Delayed::new(Fixed, 5..=8);
        let mut seen = [0; 4];
        for _ in 0..100 {
            let Reply::After { millis, reply } = delayed.handle(0, &Request::default()) else { panic!() };
            assert_eq!(*reply, Response::new(204).into());
            seen[usize::try_from(millis - 5).unwrap()] += 1;
        }
        assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
    }
}
