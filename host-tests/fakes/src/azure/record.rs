//! Timeline records: merged by PATCH, as recorded exchanges show.

use serde_json::{Map, Value, json};

const STATES: [&str; 3] = ["pending", "inProgress", "completed"];
/// `TaskResult`, in the order of its numbers.
pub(crate) const RESULTS: [&str; 6] =
    ["succeeded", "succeededWithIssues", "failed", "canceled", "skipped", "abandoned"];
/// Every member of a record that a client may send.
const FIELDS: [&str; 17] = [
    "id",
    "parentId",
    "type",
    "name",
    "startTime",
    "finishTime",
    "state",
    "result",
    "percentComplete",
    "currentOperation",
    "issues",
    "errorCount",
    "warningCount",
    "variables",
    "log",
    "workerName",
    "attempt",
];

/// The record of a check's task, as it is before anyone writes to it.
pub(crate) fn task_record(task: &str, job: &str, started: String) -> Value {
    json!({"id": task, "parentId": job, "type": "Task", "name": "Invoke REST API", "refName": "InvokeRESTAPI0",
        "startTime": started, "finishTime": null, "percentComplete": null, "currentOperation": null,
        "state": "pending", "result": null, "order": 1, "attempt": 1, "errorCount": 0, "warningCount": 0,
        "issues": [], "variables": {}, "log": null, "workerName": null,
        "task": {"id": "9c3e8943-130d-4c78-ac63-8af81df62dfb", "name": "InvokeRESTAPI", "version": "1.274.1"}})
}

/// The record of the job around it.
pub(crate) fn job_record(job: &str, started: String) -> Value {
    json!({"id": job, "parentId": null, "type": "Job", "name": "Job", "startTime": started, "finishTime": null,
        "state": "inProgress", "result": null, "order": 1, "attempt": 1, "log": null})
}

/// A change as clients write it, made plain: member names in any case, enums as numbers, a log as JSON in a string
/// (Microsoft's Node and C# clients do so); an error is the reason why no server would take it.
pub(crate) fn read_change(value: &Value) -> Result<Map<String, Value>, String> {
    let Value::Object(members) = value else { return Err("a timeline record is an object".into()) };
    let mut change = Map::new();
    for (name, value) in members {
        // An unknown member is ignored, as Newtonsoft's reader does.
        let Some(name) = FIELDS.iter().find(|field| field.eq_ignore_ascii_case(name)) else { continue };
        // Null and absent are the same: the stored value stays.
        if value.is_null() {
            continue;
        }
        let value = match *name {
            "state" => named(value, &STATES)?,
            "result" => named(value, &RESULTS)?,
            "log" => log_reference(value)?,
            "percentComplete" if value.as_u64().is_none_or(|percent| percent > 100) => {
                return Err(format!("percentComplete is 0 to 100, not {value}"));
            }
            _ => value.clone(),
        };
        change.insert((*name).to_owned(), value);
    }
    Ok(change)
}

/// Writes a change over the stored record.
pub(crate) fn merge(record: &mut Value, change: Map<String, Value>) {
    for (name, value) in change {
        record[name.as_str()] = value;
    }
}

fn named(value: &Value, names: &[&str]) -> Result<Value, String> {
    let by_number = value.as_u64().and_then(|n| usize::try_from(n).ok()).and_then(|n| names.get(n));
    let by_name = value.as_str().and_then(|text| names.iter().find(|name| name.eq_ignore_ascii_case(text)));
    let found = by_number.or(by_name).ok_or_else(|| format!("{value} is none of {}", names.join(", ")))?;
    Ok(json!(found))
}

fn log_reference(value: &Value) -> Result<Value, String> {
    let parsed = match value {
        Value::String(text) => serde_json::from_str(text).map_err(|_| "log is no object".to_owned())?,
        other => other.clone(),
    };
    // An id of 0 is stored like any other; the recorded exchange lost its log that way.
    match parsed.get("id").and_then(Value::as_u64) {
        Some(id) => Ok(json!({"id": id, "type": "Container", "url": null})),
        None => Err("log has no id".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_absent_members_leave_what_is_stored() {
        let mut record = task_record("t", "j", String::new());
        merge(&mut record, read_change(&json!({"state": "inProgress", "percentComplete": 30})).unwrap());
        merge(&mut record, read_change(&json!({"state": null, "currentOperation": "waiting"})).unwrap());
        assert_eq!(record["state"], "inProgress");
        assert_eq!(record["percentComplete"], 30);
        assert_eq!(record["currentOperation"], "waiting");
        assert_eq!(record["name"], "Invoke REST API");
    }

    #[test]
    fn enums_may_be_numbers_and_a_log_may_be_text() {
        let change = read_change(&json!({"State": 1, "Log": "{\"id\":10}"})).unwrap();
        assert_eq!(change["state"], "inProgress");
        assert_eq!(change["log"]["id"], 10);
    }

    #[test]
    fn a_log_with_id_0_is_stored() {
        assert_eq!(read_change(&json!({"log": {"id": 0}})).unwrap()["log"]["id"], 0);
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for wrong in
            [json!({"state": "running"}), json!({"state": 7}), json!({"percentComplete": 101}), json!([])]
        {
            assert!(read_change(&wrong).is_err(), "{wrong}");
        }
    }
}
