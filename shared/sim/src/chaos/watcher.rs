//! Watches every change of every job while it happens, past the proxies, by MongoDB's own log of what was committed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use bson::{Bson, DateTime, Document, Timestamp, Uuid, doc};
use dezky_shared::queue::job::Job;
use futures::StreamExt as _;
use mongodb::{
    Client,
    change_stream::event::{ChangeStreamEvent, OperationType, ResumeToken},
};
use tokio_util::task::AbortOnDropHandle;

use super::stack::DATABASE;
use crate::stores::ReplicaSet;

/// How long before another member is asked, once one cannot tell more.
const PAUSE: Duration = Duration::from_millis(100);
/// The most violations that are kept.
const MOST: usize = 20;

/// Watches until it is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    seen: Arc<Mutex<Seen>>,
    _watching: AbortOnDropHandle<()>,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How many changes of jobs.
    pub(super) changes: u64,
    /// How many claims.
    pub(super) claims: u64,
    /// How many leases that ran out.
    pub(super) rescues: u64,
    /// Two live leases on one lock, or a lease taken away from who still had it.
    pub(super) shared_locks: Vec<String>,
    /// Final jobs that changed.
    pub(super) changed_when_final: Vec<String>,
    /// Jobs that were not final and had no next time.
    pub(super) without_next_time: Vec<String>,
    jobs: HashMap<Uuid, Known>,
    /// Which job has each lock.
    locks: HashMap<String, Uuid>,
}

/// What is known about a job.
#[derive(Debug, Clone, Default)]
struct Known {
    state: String,
    lock: String,
    token: Option<Bson>,
    until: Option<DateTime>,
    has_run_at: bool,
}

impl Watcher {
    /// Watches from now on.
    pub(super) async fn start(mongo: &ReplicaSet) -> anyhow::Result<Self> {
        let clients: Vec<Client> = mongo
            .members
            .iter()
            .map(|member| member.client.clone())
            .collect();
        let primary = mongo.until_primary().await?;
        let admin = clients[primary].database("admin");
        let hello = admin.run_command(doc! { "hello": 1 }).await?;
        let write = hello.get_document("lastWrite")?.get_document("opTime")?;
        let now = write.get_timestamp("ts").context("the time of the log")?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let watching = tokio::spawn(watch(clients, now, seen.clone()));
        Ok(Self {
            seen,
            _watching: AbortOnDropHandle::new(watching),
        })
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the log at one member after the other: any of them may be killed at any time.
async fn watch(clients: Vec<Client>, from: Timestamp, seen: Arc<Mutex<Seen>>) {
    let mut last: Option<ResumeToken> = None;
    for client in clients.iter().cycle() {
        // Whatever ends it, it goes on where it was.
        let _ = follow(client, from, &mut last, &seen).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow(
    client: &Client,
    from: Timestamp,
    last: &mut Option<ResumeToken>,
    seen: &Mutex<Seen>,
) -> mongodb::error::Result<()> {
    let jobs = client.database(DATABASE).collection::<Document>("jobs");
    let watched = match last.clone() {
        Some(token) => jobs.watch().resume_after(token),
        None => jobs.watch().start_at_operation_time(from),
    };
    let mut changes = watched.await?;
    while let Some(change) = changes.next().await {
        let change = change?;
        *last = Some(change.id.clone());
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.note(change);
    }
    Ok(())
}

impl Seen {
    /// Whether `job`, if it is final, was seen to become so.
    pub(super) fn knows_end_of(&self, job: &Job) -> bool {
        let known = uuid(&job.id.into()).and_then(|id| self.jobs.get(&id));
        known.is_some_and(|known| known.is_final() || !job.state.is_final())
    }

    /// How many jobs are known.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    fn note(&mut self, change: ChangeStreamEvent<Document>) {
        let key = change.document_key.as_ref();
        let Some(id) = key.and_then(|key| key.get("_id")).and_then(uuid) else {
            return;
        };
        let changed = match (change.operation_type, change.full_document) {
            (OperationType::Insert, Some(job)) => (job, Vec::new()),
            (OperationType::Update, _) => match change.update_description {
                Some(update) => (update.updated_fields, update.removed_fields),
                None => return,
            },
            _ => {
                let what = format!("job {id} was removed");
                return keep(&mut self.changed_when_final, what);
            }
        };
        self.note_fields(id, &changed.0, &changed.1);
    }

    fn note_fields(&mut self, id: Uuid, fields: &Document, removed: &[String]) {
        self.changes += 1;
        let before = self.jobs.get(&id).cloned().unwrap_or_default();
        if before.is_final() {
            let names: Vec<&String> = fields.keys().chain(removed).collect();
            let what = format!("job {id}, {}: {names:?}", before.state);
            keep(&mut self.changed_when_final, what);
        }
        let mut after = before.clone();
        after.forget(removed);
        after.learn(fields);
        if is_rescue(fields) {
            self.rescues += 1;
            self.check_rescue(id, &before, fields);
        }
        self.check_lock(id, &before, &after);
        if !after.has_next_time() {
            let what = format!("job {id}, {}", after.state);
            keep(&mut self.without_next_time, what);
        }
        self.jobs.insert(id, after);
    }

    /// A lock is had by one job at a time, and by one lease at a time.
    fn check_lock(&mut self, id: Uuid, before: &Known, after: &Known) {
        if before.is_running() && after.is_running() {
            if before.token != after.token {
                let what = format!("job {id} has another lease without having been given back");
                keep(&mut self.shared_locks, what);
            }
        } else if after.is_running() {
            self.claims += 1;
            let other = self.locks.insert(after.lock.clone(), id);
            if let Some(other) = other {
                let what = format!("jobs {other} and {id} run with the lock {}", after.lock);
                keep(&mut self.shared_locks, what);
            }
        } else if before.is_running() {
            self.locks.remove(&before.lock);
        }
    }

    /// Nobody takes a lease away before its time is over: by the time that MongoDB wrote with it, since the clock that
    /// its log of changes goes by is late on a busy machine.
    fn check_rescue(&mut self, id: Uuid, before: &Known, fields: &Document) {
        let at = fields.get_datetime("updatedAt").ok();
        if let Some(until) = before.until
            && at.is_none_or(|at| until > *at)
        {
            let what = format!("job {id} was rescued at {at:?}, and its lease was until {until}");
            keep(&mut self.shared_locks, what);
        }
    }
}

impl Known {
    fn is_running(&self) -> bool {
        self.state == "running"
    }

    fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "discarded" | "cancelled")
    }

    fn has_next_time(&self) -> bool {
        match self.state.as_str() {
            "available" => self.has_run_at,
            "running" => self.until.is_some() && self.token.is_some(),
            _ => true,
        }
    }

    /// Fields may come as a whole or by their path.
    fn learn(&mut self, fields: &Document) {
        let lease = fields.get_document("lease").ok();
        let of_lease = |name: &str| {
            let by_path = fields.get(format!("lease.{name}"));
            by_path.or_else(|| lease?.get(name)).cloned()
        };
        if let Some(token) = of_lease("token") {
            self.token = Some(token);
        }
        if let Some(Bson::DateTime(until)) = of_lease("until") {
            self.until = Some(until);
        }
        if let Ok(state) = fields.get_str("state") {
            state.clone_into(&mut self.state);
        }
        if let Ok(lock) = fields.get_str("lockKey") {
            lock.clone_into(&mut self.lock);
        }
        self.has_run_at |= fields.get_datetime("runAt").is_ok();
    }

    fn forget(&mut self, fields: &[String]) {
        for field in fields {
            match field.as_str() {
                "lease" => (self.token, self.until) = (None, None),
                "lease.token" => self.token = None,
                "lease.until" => self.until = None,
                "runAt" => self.has_run_at = false,
                _ => {}
            }
        }
    }
}

/// Whether the last try that the change lists ended because its worker was gone. Once the list is full, those before it
/// move up and are changes too.
fn is_rescue(fields: &Document) -> bool {
    if let Ok(all) = fields.get_array("attempts") {
        let last = all.last().and_then(Bson::as_document);
        let outcome = last.and_then(|attempt| attempt.get_str("outcome").ok());
        return outcome == Some("rescue");
    }
    let of_place = |(name, value): (&String, &Bson)| {
        let path = name.strip_prefix("attempts.")?;
        let (place, member) = path.split_once('.').unwrap_or((path, ""));
        let outcome = match (member, value) {
            ("", Bson::Document(attempt)) => attempt.get_str("outcome").ok(),
            ("outcome", outcome) => outcome.as_str(),
            _ => None,
        };
        Some((place.parse::<usize>().ok()?, outcome == Some("rescue")))
    };
    let last = fields.iter().filter_map(of_place).max();
    last.is_some_and(|(_, is_rescue)| is_rescue)
}

fn uuid(id: &Bson) -> Option<Uuid> {
    match id {
        Bson::Binary(binary) => binary.to_uuid().ok(),
        _ => None,
    }
}

fn keep(violations: &mut Vec<String>, what: String) {
    if violations.len() < MOST {
        violations.push(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: Uuid = Uuid::from_bytes([1; 16]);
    const OTHER: Uuid = Uuid::from_bytes([2; 16]);

    fn at(millis: i64) -> DateTime {
        DateTime::from_millis(millis)
    }

    fn waiting() -> Document {
        doc! { "state": "available", "lockKey": "tenant:1", "runAt": at(0) }
    }

    fn claimed(token: i32) -> Document {
        doc! { "state": "running", "lease": { "token": token, "until": at(1_000) } }
    }

    fn rescued(millis: i64) -> Document {
        doc! { "state": "available", "attempts": [{ "outcome": "rescue" }], "updatedAt": at(millis) }
    }

    fn seen(changes: &[(Uuid, Document)]) -> Seen {
        let mut seen = Seen::default();
        for (id, fields) in changes {
            let gives_back = fields
                .get_str("state")
                .is_ok_and(|state| state != "running");
            let removed: &[String] = if gives_back {
                &["lease".to_owned()]
            } else {
                &[]
            };
            seen.note_fields(*id, fields, removed);
        }
        seen
    }

    #[test]
    fn an_ordinary_life_violates_nothing() {
        let seen = seen(&[
            (JOB, waiting()),
            (OTHER, waiting()),
            (JOB, claimed(1)),
            (JOB, doc! { "lease.until": at(1_500) }),
            (JOB, rescued(1_501)),
            (OTHER, claimed(2)),
            (OTHER, doc! { "state": "completed" }),
            (JOB, claimed(3)),
            (JOB, doc! { "state": "discarded" }),
        ]);

        assert_eq!((seen.claims, seen.rescues), (3, 1));
        assert!(seen.shared_locks.is_empty(), "{:?}", seen.shared_locks);
        assert!(seen.changed_when_final.is_empty());
        assert!(seen.without_next_time.is_empty());
    }

    #[test]
    fn two_jobs_that_run_with_one_lock_are_found() {
        let seen = seen(&[
            (JOB, waiting()),
            (OTHER, waiting()),
            (JOB, claimed(1)),
            (OTHER, claimed(2)),
        ]);

        assert_eq!(seen.shared_locks.len(), 1);
    }

    #[test]
    fn a_lease_that_is_taken_away_too_early_is_found() {
        let stolen = seen(&[(JOB, waiting()), (JOB, claimed(1)), (JOB, claimed(2))]);
        let rescued = seen(&[(JOB, waiting()), (JOB, claimed(1)), (JOB, rescued(999))]);

        assert_eq!(stolen.shared_locks.len(), 1);
        assert_eq!(rescued.shared_locks.len(), 1);
    }

    #[test]
    fn of_a_full_list_the_last_try_counts() {
        let ended = |last: Document| {
            let mut fields = doc! { "state": "available", "updatedAt": at(500) };
            // It has moved up.
            fields.insert("attempts.6", doc! { "outcome": "rescue" });
            fields.extend(last);
            let seen = seen(&[(JOB, waiting()), (JOB, claimed(1)), (JOB, fields)]);
            (seen.rescues, seen.shared_locks.len())
        };

        let released = ended(doc! { "attempts.19": { "outcome": "release" } });
        let rescued = ended(doc! { "attempts.19": { "outcome": "rescue" } });
        let by_path = ended(doc! { "attempts.19.n": 21, "attempts.19.outcome": "rescue" });

        assert_eq!(released, (0, 0));
        assert_eq!((rescued, by_path), ((1, 1), (1, 1)));
    }

    #[test]
    fn a_final_job_that_changes_is_found() {
        let seen = seen(&[
            (JOB, doc! { "state": "completed" }),
            (JOB, doc! { "steps.0.state": "ok" }),
        ]);

        assert_eq!(seen.changed_when_final.len(), 1);
    }

    #[test]
    fn a_job_without_a_next_time_is_found() {
        let seen = seen(&[
            (JOB, doc! { "state": "available", "lockKey": "tenant:1" }),
            (OTHER, doc! { "state": "running", "lockKey": "tenant:2" }),
        ]);

        assert_eq!(seen.without_next_time.len(), 2);
    }
}
