//! What remains of a check whose record cannot be read as a whole: a newer module wrote it, or somebody edited it.

use serde_json::{Map, Value, json};

/// The members of a pending check that its report needs. A newer format may have others, and other phases.
const NEEDED: [&str; 11] = [
    "callback",
    "tokens",
    "token_end",
    "decide_by",
    "accepted",
    "earlier",
    "delivery",
    "credential",
    "observe",
    "acceptance",
    "evaluation",
];

/// The members that make a better report, if they can be read.
const WANTED: [&str; 2] = ["ask", "log"];

/// Why it was decided.
const REASON: &str = "This check's record could not be read: a newer Testrelay wrote it, or somebody edited its Secret. No replica that can read it came in time. Re-run the stage.";

/// Records in this format that can be made of a pending check's record which cannot be read, the best first. They decide
/// that the check is inconclusive, as soon as its token is taken. None if it was decided.
pub(crate) fn remains(record: &[u8], format: u8) -> Vec<Vec<u8>> {
    let whole: Value = serde_json::from_slice(record).unwrap_or_default();
    let (Some(now), Some(pending)) = (whole.get("now"), whole.pointer("/state/pending")) else {
        return Vec::new();
    };
    let is_in = |phase: &str| pending.get("phase").is_some_and(|now| now.get(phase).is_some());
    if is_in("decided") || is_in("owing") {
        return Vec::new();
    }
    let rest = |wanted: &[&str]| {
        let mut rest = Map::new();
        let set = [("ask", Value::Null), ("log", "unopened".into()), ("phase", "accepted".into())];
        rest.extend(set.map(|(name, value)| (name.to_owned(), value)));
        rest.insert("falls".into(), json!({"count": 0, "last": 0}));
        rest.insert(
            "known".into(),
            json!({"outcome": "inconclusive", "code": "record_unreadable", "reason": REASON}),
        );
        let kept = NEEDED.iter().chain(wanted).filter_map(|name| Some((*name, pending.get(name)?)));
        rest.extend(kept.map(|(name, value)| (name.to_owned(), value.clone())));
        let whole = json!({"format": format, "now": now, "state": {"pending": rest}});
        whole.to_string().into_bytes()
    };
    vec![rest(&WANTED), rest(&[])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::record;
    use crate::check::{Outcome, Pending, Phase, ReasonCode, State};

    fn written() -> Value {
        let record = record(1);
        json!({"format": 9, "now": {"mono": 5, "wall": 7}, "state": record.state})
    }

    fn read(record: &Value) -> Option<Box<Pending>> {
        let rests = remains(record.to_string().as_bytes(), 1);
        rests.iter().find_map(|rest| {
            let rest: Value = serde_json::from_slice(rest).unwrap();
            assert_eq!((&rest["format"], &rest["now"]), (&json!(1), &record["now"]));
            match crate::json::read(rest["state"].to_string().as_bytes()) {
                Ok(State::Pending(pending)) => Some(pending),
                _ => None,
            }
        })
    }

    #[test]
    fn what_a_report_needs_is_kept_whatever_else_has_changed() {
        let State::Pending(whole) = record(1).state else { panic!() };
        let mut changed = written();
        let pending = &mut changed["state"]["pending"];
        pending["phase"] = json!({"dreaming": {"since": 1}});
        pending["rivals"] = json!("many");
        pending["more"] = json!([1, 2]);
        let rest = read(&changed).unwrap();
        assert_eq!((&rest.callback, &rest.tokens, &rest.ask), (&whole.callback, &whole.tokens, &whole.ask));
        assert_eq!((rest.decide_by, rest.delivery), (whole.decide_by, whole.delivery));
        assert_eq!(rest.phase, Phase::Accepted);
        let known = rest.known.unwrap();
        assert_eq!((known.outcome, known.code), (Outcome::Inconclusive, Some(ReasonCode::RecordUnreadable)));
        changed["state"]["pending"]["ask"] = json!({"tags": ["a", "b"]});
        assert_eq!(read(&changed).unwrap().ask, None, "it is reported without its tag");
    }

    #[test]
    fn without_what_a_report_needs_nothing_remains() {
        for name in ["callback", "tokens", "accepted", "decide_by"] {
            let mut changed = written();
            changed["state"]["pending"].as_object_mut().unwrap().remove(name);
            assert!(read(&changed).is_none(), "{name}");
        }
        for other in [json!(null), json!([]), json!({"state": {"done": {}}}), json!("text")] {
            assert!(read(&json!({"now": {"mono": 5, "wall": 7}, "state": other})).is_none());
        }
        assert!(remains(b"not JSON", 1).is_empty());
    }

    #[test]
    fn what_was_decided_is_not_decided_again() {
        for phase in ["decided", "owing"] {
            let mut changed = written();
            changed["state"]["pending"]["phase"] = json!({phase: {"in": "another form"}});
            assert!(read(&changed).is_none());
        }
    }
}
