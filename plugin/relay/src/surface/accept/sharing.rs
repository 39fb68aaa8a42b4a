//! Accepting a check into the cluster store: it is answered once its Secret is written.
//!
//! A delivery is created as a new Secret. If there is one, the delivery is added to it, whoever owns it. Without a clear
//! answer the Secret is read before it is written again, because the write may have been done.

use super::replies::{answer, away, full, unreadable, unstored};
use super::{Admitted, Counted, Headers, Stored, admitted, stored, tell_leader};
use crate::check::{Delivered, Delivery, Kept, Pending, Record, Reread, State, deliver};
use crate::config::{ClusterStore, Config};
use crate::store::cluster::lease::{NOBODY, Replica};
use crate::store::cluster::secret::StoredCheck;
use crate::store::cluster::space;
use crate::store::cluster::standing::Standing;
use crate::store::ledger::{Change, Ledger, LedgerError, MAX_RECORD, Store};
use crate::store::places::{self, Grant, Share};
use crate::surface::exchange::{Ended, Step};
use crate::surface::problem::Reply;
use crate::surface::request::Body;
use crate::time::{Mono, Now};
use crate::wire::call::{CallOutcome, Fault};
use crate::wire::kubernetes::{self, ApiAnswer, Object, SecretBody, StoredObject, Version};
use std::rc::Rc;
use std::time::Duration;

/// When a call is tried again, since the acceptance began. Azure DevOps waits 20 s for an answer.
const TRIES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
    Duration::from_secs(10),
];

/// Timeout of each call.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Time after which an acceptance makes no further call.
const MAX_TIME: Duration = Duration::from_secs(15);

/// Time after which an acceptance whose calls are never answered is answered, at the next tick, which comes within a
/// second.
pub const GIVEN_UP: Duration = Duration::from_secs(18);

/// One check request that is being stored.
pub struct Acceptance {
    config: Rc<Config>,
    ledger: Ledger,
    admitted: Admitted,
    began: Mono,
    tries: usize,
    /// The place that was taken for it and is not in a record yet.
    place: Option<Grant>,
    asked: Asked,
    fault: Option<Fault>,
    /// Whether this process has the check, and has not stored it yet.
    is_storing: bool,
    /// The owner that its calls name; [`NOBODY`] while this replica drains.
    owner: String,
}

/// The call that is under way, or to be made.
enum Asked {
    Create(Box<Pending>),
    Read,
    Write(Box<Merge>),
}

/// A delivery that is added to a Secret.
struct Merge {
    replaces: Version,
    owner: String,
    state: State,
    delivered: Delivered,
}

impl Acceptance {
    /// Begins to accept a request; `number` is random.
    ///
    /// # Errors
    /// Its refusal.
    pub fn new<'b, B: AsRef<[u8]>>(
        config: &Rc<Config>,
        ledger: &Ledger,
        now: Now,
        headers: &Headers<B>,
        body: impl Into<Body<'b>>,
        number: u64,
    ) -> Result<Acceptance, Reply> {
        Ok(Acceptance {
            admitted: Admitted { number: number.max(1), ..admitted(config, now, headers, body)? },
            config: config.clone(),
            ledger: ledger.clone(),
            is_storing: false,
            owner: NOBODY.into(),
            began: now.mono,
            tries: 0,
            place: None,
            asked: Asked::Read,
            fault: None,
        })
    }

    /// The first step: takes a place for a new check.
    pub fn begin(&mut self, now: Now, store: &mut dyn Store) -> Step {
        let mut bucket = self.ledger.bucket(&self.admitted.key);
        if let Err(error) = bucket.read(store) {
            return self.end(store, &unstored(&LedgerError::Store(error)));
        }
        let found = bucket.find_pending(&self.admitted.key).filter(|pending| !pending.is_over());
        self.is_storing = found.is_some_and(|pending| pending.kept.is_none());
        let is_known = found.is_some();
        if !is_known && let Err(error) = self.take_place(store) {
            return self.end(store, &unstored(&error));
        }
        self.try_again(now, store)
    }

    fn take_place(&mut self, store: &mut dyn Store) -> Result<(), LedgerError> {
        let place = self.admitted.new.place();
        self.place = Some(places::take(store, &self.ledger, &place, self.admitted.limits)?);
        Ok(())
    }

    /// Makes the next try, whose time has come.
    pub fn try_again(&mut self, now: Now, store: &mut dyn Store) -> Step {
        self.tries += 1;
        if self.place == Some(Grant::Taken) && self.tries == 1 {
            return self.create(now, store);
        }
        self.call(now, store)
    }

    /// Creates the Secret.
    fn create(&mut self, now: Now, store: &mut dyn Store) -> Step {
        match deliver(None, &self.admitted.new, now, true) {
            Delivery::Put(mut pending, _) => {
                (pending.acceptance, pending.evaluation) = (self.admitted.number, self.admitted.number);
                self.asked = Asked::Create(pending);
                self.call(now, store)
            }
            Delivery::Kept(delivered) => self.answer_as(store, delivered),
        }
    }

    /// Starts the call that is to be made.
    fn call(&mut self, now: Now, store: &mut dyn Store) -> Step {
        let Some(shared) = &self.config.store else { return self.end(store, &away(None)) };
        let standing = Standing::read(store, self.ledger.prefix()).ok().flatten();
        let Some(standing) = standing.filter(|standing| standing.has_lease) else {
            return self.failed(now, store, None, None);
        };
        let owner = if standing.drains { NOBODY } else { &standing.id };
        self.owner = owner.to_owned();
        if now.mono.since(self.began) > MAX_TIME {
            return self.give_up(now, store);
        }
        let (server, replica) = (&shared.server, replica(shared, &self.ledger, &standing));
        let key = &self.admitted.key;
        let secret = |state: State, owner: &str| replica.secret(key, state, owner, now);
        let request = match &mut self.asked {
            Asked::Create(pending) => {
                let object = secret(State::Pending(pending.clone()), owner);
                let fits = |object: &Object<SecretBody>| {
                    object.body.record.as_ref().is_some_and(|record| record.len() <= MAX_RECORD)
                };
                object.filter(fits).map(|object| server.create(&object, TIMEOUT))
            }
            Asked::Read => Some(server.get::<SecretBody>(&replica.secret_name(key), TIMEOUT)),
            Asked::Write(merge) => {
                if merge.delivered.begins_evaluation() {
                    merge.owner = owner.to_owned();
                }
                secret(merge.state.clone(), &merge.owner)
                    .map(|object| server.update(&merge.replaces, &object, TIMEOUT))
            }
        };
        match request {
            Some(request) => Step::call(request),
            None => self.end(store, &unstored(&LedgerError::TooLarge)),
        }
    }

    /// Reads the answer to a call. Returns the next step.
    pub fn answer(&mut self, now: Now, store: &mut dyn Store, outcome: &CallOutcome) -> Step {
        match std::mem::replace(&mut self.asked, Asked::Read) {
            Asked::Create(pending) => match kubernetes::created::<SecretBody>(outcome) {
                ApiAnswer::Done(secret) => self.created(now, store, pending, secret.version),
                ApiAnswer::Later(fault, after) => {
                    if space::is_refusal(&fault)
                        && let Err(status) = space::note_refusal(store, self.ledger.prefix(), now.mono)
                    {
                        log::error!(
                            "shared data failed with status {}: ended checks are not deleted early",
                            status.0
                        );
                    }
                    self.asked = Asked::Create(pending);
                    self.failed(now, store, Some(fault), after)
                }
                answer => self.go_on(now, store, answer),
            },
            Asked::Read => match kubernetes::stored::<SecretBody>(outcome) {
                ApiAnswer::Done(secret) => self.read(now, store, &secret),
                ApiAnswer::Missing => self.missing(now, store),
                answer => self.go_on(now, store, answer),
            },
            Asked::Write(merge) => match kubernetes::stored::<SecretBody>(outcome) {
                ApiAnswer::Done(secret) => self.merged(now, store, *merge, secret.version),
                answer => self.go_on(now, store, answer),
            },
        }
    }

    /// Goes on after an answer other than success: reads the Secret, at once or after a pause.
    fn go_on<T>(&mut self, now: Now, store: &mut dyn Store, answer: ApiAnswer<T>) -> Step {
        match answer {
            ApiAnswer::Done(_)
            | ApiAnswer::Exists
            | ApiAnswer::Conflict
            | ApiAnswer::Missing
            | ApiAnswer::Expired => self.call(now, store),
            ApiAnswer::Refused(fault) => {
                log::error!("check {} could not be stored: {fault}", self.admitted.key.id());
                self.end(store, &away(Some(&fault)))
            }
            ApiAnswer::Later(fault, after) => self.failed(now, store, Some(fault), after),
            ApiAnswer::Unknown(fault) => self.failed(now, store, Some(fault), None),
        }
    }

    /// Waits for the next try, or gives up.
    fn failed(
        &mut self,
        now: Now,
        store: &mut dyn Store,
        fault: Option<Fault>,
        after: Option<Duration>,
    ) -> Step {
        self.fault = fault.or(self.fault.take());
        let Some(pause) = TRIES.get(self.tries) else { return self.give_up(now, store) };
        let next = self.began.plus(*pause).max(now.mono.plus(after.unwrap_or_default()));
        match TRIES.last().is_some_and(|last| next <= self.began.plus(*last)) {
            true => Step::Pause(next),
            false => self.give_up(now, store),
        }
    }

    fn give_up(&mut self, now: Now, store: &mut dyn Store) -> Step {
        let id = self.admitted.key.id();
        let why = self.fault.as_ref().map_or("this replica has no Lease".into(), Fault::to_string);
        if self.config.store.as_ref().is_some_and(|shared| shared.accepts_in_outage) {
            log::warn!(
                "check {id}: the API server does not store it ({why}): it is kept in this process alone until it does"
            );
            return self.store_here(now, store);
        }
        log::error!("check {id} could not be stored: {why}");
        let refusal = away(self.fault.as_ref());
        self.end(store, &refusal)
    }

    /// The Secret was created.
    fn created(
        &mut self,
        now: Now,
        store: &mut dyn Store,
        mut pending: Box<Pending>,
        version: Version,
    ) -> Step {
        let delivered = Delivered::New(pending.deadline(), pending.tokens.ends().unwrap_or_default());
        pending.kept = kept(&pending, version, now);
        self.put(store, pending, delivered)
    }

    /// The Secret is there.
    fn read(&mut self, now: Now, store: &mut dyn Store, secret: &StoredObject<SecretBody>) -> Step {
        let Some(shared) = &self.config.store else { return self.end(store, &away(None)) };
        let mut found = match StoredCheck::of(secret, &shared.sealing, now) {
            Ok(found) => found,
            Err(why) => {
                let (id, name) = (self.admitted.key.id(), &secret.object.name);
                log::error!("check {id}: the record in its Secret {name} cannot be read: {why}");
                return self.end(store, &unreadable());
            }
        };
        if let State::Done(done) = &mut found.state
            && found.owner != self.owner
        {
            // Its clock may be minutes off: whether it was reported just now, nobody knows.
            done.at.mono = Mono(0);
        }
        if let State::Pending(pending) = &found.state
            && pending.acceptance == self.admitted.number
            && (found.owner == self.owner || pending.delivery > 1)
        {
            // An earlier call of this acceptance was done, although its answer was lost.
            return match pending.delivery {
                1 if pending.tokens.hold(self.admitted.new.tokens.current()) => {
                    let mut pending = pending.clone();
                    pending.place = crate::check::Placed::Holds(self.admitted.new.place());
                    self.created(now, store, pending, found.version)
                }
                _ => self.answer_as(store, Delivered::Again),
            };
        }
        if let State::Done(done) = &found.state
            && done.acceptance == self.admitted.number
        {
            // So was this one's, and the leader has found the Secret and ended the check since.
            return self.answer_as(store, done.outcome.map_or(Delivered::Again, Delivered::Repeated));
        }
        let has_place = self.place == Some(Grant::Taken);
        match deliver(Some(&found.state), &self.admitted.new, now, has_place) {
            Delivery::Kept(Delivered::Unplaced) => match self.place {
                Some(Grant::Full(share)) => self.no_room(store, share),
                // It was pending in this process when the request came, and another one has ended it.
                _ => match self.take_place(store) {
                    Ok(()) => self.read(now, store, secret),
                    Err(error) => self.end(store, &unstored(&error)),
                },
            },
            Delivery::Kept(delivered) => self.answer_as(store, delivered),
            Delivery::Put(mut pending, delivered) => {
                pending.acceptance = self.admitted.number;
                pending.begin_evaluation(delivered, self.admitted.number);
                let state = State::Pending(pending);
                self.asked = Asked::Write(Box::new(Merge {
                    replaces: found.version,
                    owner: found.owner,
                    state,
                    delivered,
                }));
                self.call(now, store)
            }
        }
    }

    fn missing(&mut self, now: Now, store: &mut dyn Store) -> Step {
        match self.place {
            Some(Grant::Full(share)) => self.no_room(store, share),
            Some(Grant::Taken) => self.create(now, store),
            // This process has the check, and its leader stores it.
            None if self.is_storing => self.store_here(now, store),
            // It was deleted by hand, or has been ended by another.
            None => match self.take_place(store) {
                Ok(()) => self.missing(now, store),
                Err(error) => self.end(store, &unstored(&error)),
            },
        }
    }

    /// The delivery was added to the Secret.
    fn merged(&mut self, now: Now, store: &mut dyn Store, merge: Merge, version: Version) -> Step {
        let Merge { replaces, owner, state, delivered } = merge;
        match state {
            State::Pending(mut pending) if delivered.begins_evaluation() => {
                pending.kept = kept(&pending, version, now);
                self.put(store, pending, delivered)
            }
            state => {
                self.add_here(now, store, &owner, &replaces, state, version);
                self.answer_as(store, delivered)
            }
        }
    }

    /// Adds the delivery to this process's record too, if that is the one that was replaced. If it is not, the leader
    /// meets the new version at its next write.
    fn add_here(
        &mut self,
        now: Now,
        store: &mut dyn Store,
        owner: &str,
        replaces: &Version,
        read: State,
        version: Version,
    ) {
        let standing = Standing::read(store, self.ledger.prefix()).ok().flatten();
        if standing.is_none_or(|standing| standing.id != owner) {
            return;
        }
        let key = self.admitted.key;
        let added = self.ledger.bucket(&key).update(store, &key, |found| {
            let held = found.map(|record| &record.state);
            let held = held.filter(|held| held.kept().is_some_and(|kept| kept.version == *replaces));
            match held.map(|held| held.reread(read.clone(), version.clone(), now.mono)) {
                Some(Reread::Becomes(state)) => Change::Put(Box::new(Record { key, state: *state }), true),
                _ => Change::Keep(false),
            }
        });
        if added == Ok(true) {
            let _found_within_a_minute = self.ledger.note(store, &key);
        }
    }

    /// Puts a new check, whose Secret was written, into this process's ledger, in place of an earlier evaluation that another
    /// process has ended.
    fn put(&mut self, store: &mut dyn Store, pending: Box<Pending>, delivered: Delivered) -> Step {
        let key = self.admitted.key;
        if self.owner == NOBODY {
            return self.answer_as(store, delivered);
        }
        let put =
            self.ledger.bucket(&key).update(store, &key, |found| match found.map(|record| &record.state) {
                // The leader has found the Secret already.
                Some(State::Pending(held)) if held.evaluation == pending.evaluation => Change::Keep(None),
                other => {
                    let left = other.and_then(State::held).cloned();
                    let record = Record { key, state: State::Pending(pending.clone()) };
                    Change::Put(Box::new(record), Some(left))
                }
            });
        match put {
            Ok(Some(left)) => {
                self.place = None;
                if let Some(left) = left {
                    places::give_back(store, &self.ledger, &left);
                }
                tell_leader(&self.ledger, store, &key);
            }
            Ok(None) => {}
            // Its Secret names this process: the leader takes it in within a minute.
            Err(error) => log::error!("check {}: it is stored, but {error}", key.id()),
        }
        self.answer_as(store, delivered)
    }

    /// Stores the delivery in this process's ledger alone.
    fn store_here(&mut self, now: Now, store: &mut dyn Store) -> Step {
        self.give_back(store);
        match stored(&self.ledger, store, &self.admitted, now) {
            Ok(Stored::In(delivered)) => self.answer_as(store, delivered),
            Ok(Stored::NoRoom(share)) => self.no_room(store, share),
            Err(error) => {
                log::error!("check {} could not be stored: {error}", self.admitted.key.id());
                self.end(store, &unstored(&error))
            }
        }
    }

    fn answer_as(&mut self, store: &mut dyn Store, delivered: Delivered) -> Step {
        self.give_back(store);
        let (reply, counted) = answer(&self.admitted, delivered);
        Step::Reply(reply, Some(Ended::Check(counted)))
    }

    fn no_room(&mut self, store: &mut dyn Store, share: Share) -> Step {
        self.end(store, &full(share))
    }

    fn end(&mut self, store: &mut dyn Store, refusal: &Reply) -> Step {
        self.give_back(store);
        Step::Reply(refusal.clone(), Some(Ended::Check(Counted::Refused)))
    }

    /// Gives back the place that no record notes.
    fn give_back(&mut self, store: &mut dyn Store) {
        if self.place.take() == Some(Grant::Taken) {
            places::give_back(store, &self.ledger, &self.admitted.new.place());
        }
    }
}

/// What is known of the Secret that was just written for a new check.
fn kept(pending: &Pending, version: Version, now: Now) -> Option<Box<Kept>> {
    Some(Box::new(Kept { version, written: Some(pending.written()), seen: now.mono }))
}

fn replica(shared: &ClusterStore, ledger: &Ledger, standing: &Standing) -> Replica {
    Replica::new(ledger.prefix(), &standing.id, &shared.pod, &shared.sealing)
}
