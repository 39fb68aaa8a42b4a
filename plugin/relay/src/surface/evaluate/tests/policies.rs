//! Evaluations with policies.

use super::{Evaluated, evaluate, execution, refusal};

#[test]
fn an_optional_failure_is_held_against_nobody_and_the_other_policies_are_refused() {
    let all = [execution("shop-e2e-1", "passed", 60), execution("shop-lint-1", "failed", 60)];
    let expect = ("testrelay-expect", "shop-e2e");
    let Evaluated { status, reason, .. } = evaluate(&all, &[expect, ("testrelay-optional", "shop-l*")]);
    assert_eq!(status, "succeeded", "{reason}");
    assert!(reason.contains("shop-lint-1 failed (optional)") && !reason.contains("exit code"), "{reason}");
    assert_eq!(evaluate(&all, &[expect, ("testrelay-optional", "shop-b*")]).status, "failed");
    let alone = [execution("shop-lint-1", "passed", 60)];
    assert_eq!(evaluate(&alone, &[("testrelay-optional", "shop-lint")]).status, "pending");

    for (field, value) in [("max-age", "7d"), ("grace", "15m"), ("retry", "1"), ("tests-build", "4711")] {
        let (status, text) = refusal("all", &[(&format!("testrelay-{field}"), value)]);
        assert!(status == 400 && text.contains("asynchronous check"), "{field}: {status} {text}");
    }
    let project = ("projectid", "00000001-0000-4000-8000-000000000001");
    let (status, text) = refusal("few", &[project, ("testrelay-optional", "shop-lint")]);
    assert!(
        status == 400 && text.contains("add \\\"optional\\\" to its `allow_policies`"),
        "{status} {text}"
    );
}
