//! The configuration, the clock and the check that the targets share.

use crate::store::Memory;
use crate::texts::assert_no_secret;
use std::time::Duration;
use testrelay::check::{Ask, CheckKey, Ends, Falls, Log, Pending, Phase, Placed, Record, State, Tokens};
use testrelay::config::Config;
use testrelay::guid::Guid;
use testrelay::secret::Secret;
use testrelay::store::ledger::{Change, Ledger};
use testrelay::tag::Tag;
use testrelay::time::{Mono, Now, Wall};
use testrelay::wire::azure::{Callback, HubName};

/// What the keys begin with.
pub(crate) const PREFIX: &str = "testrelay/1/fuzz/";

/// The ledger of all targets.
pub(crate) fn ledger() -> Ledger {
    Ledger::with_key(PREFIX, &[0; 16])
}

/// Stands in every check's token.
pub(crate) const TOKEN: &str = "canary-token-5d41402a";
/// The secret of every configured credential.
pub(crate) const CREDENTIAL: &str = "canary-credential-7d793037";
/// The token for Testkube's API.
pub(crate) const API_TOKEN: &str = "canary-api-token-bc4b2a76";

/// All of them. An input that holds one itself is not run.
pub(crate) const SECRETS: [&str; 3] = [TOKEN, CREDENTIAL, API_TOKEN];

/// The project, plan, job and so on of every check that a target makes itself.
pub(crate) const ID: &str = "69f48e94-bdb4-42d7-a560-0f2b54f91cc8";

/// 2026-01-23T16:44:00Z, and some time after the machine's start.
pub(crate) const NOW: Now = Now { mono: Mono(1_000_000), wall: Wall(1_769_186_640_000) };

/// Whether an input holds one of the secrets, so that finding it in a text would prove nothing.
pub(crate) fn holds_a_secret(input: &[u8]) -> bool {
    let holds = |secret: &str| input.windows(secret.len()).any(|window| window == secret.as_bytes());
    SECRETS.into_iter().any(holds)
}

/// A configuration, with what the words of `options` change: `open` (no credentials), `read_body`, `unbound`,
/// `require_expect`.
pub(crate) fn config(options: &str) -> Config {
    let has = |option: &str| options.split_whitespace().any(|word| word == option);
    let text = serde_json::json!({
        "testkube": {"cluster": "testkube", "bearer_env": "API_TOKEN"},
        "azure_devops": [
            {"url": "https://dev.azure.com/fabrikam", "cluster": "azure-devops"},
            {"url": "http://tfs:8080/tfs/DefaultCollection", "cluster": "server", "auth": "basic"}
        ],
        "credentials": [
            {"name": "pipelines", "kind": "basic", "username": "u", "secret_env": "CREDENTIAL", "allow": ["checks"]},
            {"name": "scripts", "kind": "bearer", "secret_env": "CREDENTIAL", "allow": ["checks", "artifacts"]},
        ],
        "read_body": has("read_body"),
        "tag": {"bind_to_build": !has("unbound")},
        "checks": {"require_expect": has("require_expect")}
    });
    let mut text = text;
    if let (true, Some(members)) = (has("open"), text.as_object_mut()) {
        members.remove("credentials");
        members.insert("insecure_no_auth".into(), true.into());
    }
    let environment = |name: &str| match name {
        "API_TOKEN" => Some(API_TOKEN.into()),
        "CREDENTIAL" => Some(CREDENTIAL.into()),
        _ => None,
    };
    Config::parse(text.to_string().as_bytes(), &environment).expect("the targets' own configuration is right")
}

/// A check that has just been accepted and waits for `ado-run=20260123.4`, the tag of the executions in the corpus.
pub(crate) fn pending(ask: impl FnOnce(&mut Ask), build: Option<u64>) -> Pending {
    let id = || Guid::parse(ID).expect("a GUID");
    let mut asked = Ask {
        tag: Tag { key: "ado-run".into(), value: "20260123.4".into() },
        expect: testrelay::expect::Expect::Any,
        settle: Duration::ZERO,
        timeout: Duration::from_secs(12 * 3600),
        appear_timeout: Duration::from_secs(30 * 60),
        since_stage: None,
        rerun: testrelay::config::Rerun::Latest,
        policies: Default::default(),
        given: None,
    };
    ask(&mut asked);
    let two_days = Duration::from_secs(48 * 3600);
    let ends = Ends {
        at: NOW.mono.plus(two_days),
        decide_by: NOW.mono.plus(two_days - Duration::from_secs(1800)),
        assumed: false,
    };
    Pending {
        callback: Callback {
            entry: "https://dev.azure.com/fabrikam".into(),
            project: id(),
            hub: HubName::Checks,
            plan: id(),
            job: id(),
            task: id(),
            timeline: Some(id()),
            build,
        },
        ask: Some(asked),
        known: None,
        tokens: Tokens::new(Secret::new(TOKEN.into()), 1, ends),
        rivals: Vec::new(),
        tries: 0,
        turn: NOW.mono,
        is_refused: false,
        began: NOW.mono,
        delivery: 1,
        delivered: NOW.mono,
        accepted: NOW,
        token_end: ends.at,
        decide_by: ends.decide_by,
        log: Log::Unopened,
        claim: None,
        taken: false,
        is_reported: false,
        credential: String::new(),
        place: Placed::default(),
        observe: false,
        before: None,
        told: None,
        earlier: std::time::Duration::ZERO,
        acceptance: 0,
        evaluation: 0,
        is_doubted: false,
        kept: None,
        falls: Falls::default(),
        phase: Phase::Accepted,
    }
}

/// A ledger that holds one check, and the check's key.
pub(crate) fn ledger_of(pending: Pending) -> (Memory, CheckKey) {
    let mut store = Memory::default();
    let key = CheckKey::of(&pending.callback);
    let record = Record { key, state: State::Pending(Box::new(pending)) };
    ledger()
        .bucket(&key)
        .update(&mut store, &key, |_| Change::Put(Box::new(record.clone()), ()))
        .expect("an empty ledger has room");
    (store, key)
}

/// The record of a check.
pub(crate) fn record_of(store: &mut Memory, key: &CheckKey) -> Option<Record> {
    let mut bucket = ledger().bucket(key);
    bucket.read(store).expect("the store answers");
    bucket.find(key).cloned()
}

/// Panics if a key's name shows a secret: keys are not meant to be hidden.
pub(crate) fn assert_key_names_are_clean(store: &Memory) {
    for name in store.keys() {
        assert_no_secret("a key's name", name, &SECRETS);
    }
}
