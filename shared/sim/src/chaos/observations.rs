//! Observations: the history of every job, and the anomalies that it must never contain.

use std::{collections::HashMap, time::Duration};

use bson::{Bson, DateTime, Document, Uuid};
use dezky_shared::{platform::clock, queue::job::Job};
use mongodb::change_stream::event::{ChangeStreamEvent, OperationType};

use super::{claim_pace::ClaimPace, timings::LANDING_TIME};

/// Maximum number of violations kept per kind.
const MAX_VIOLATIONS: usize = 20;
/// Minimum time from the end of a lease to a rescue: a part of [`LANDING_TIME`], since the worker that rescues estimates
/// MongoDB's clock.
const MIN_RESCUE_DELAY: Duration = LANDING_TIME.saturating_sub(Duration::from_millis(400));

/// Statistics and violations so far.
#[derive(Debug, Default)]
pub(super) struct Observations {
    /// Number of changes of jobs.
    pub(super) changes: u64,
    /// Number of claims.
    pub(super) claims: u64,
    /// Number of expired leases.
    pub(super) rescues: u64,
    /// Two live leases on one lock key.
    pub(super) lease_conflicts: Vec<String>,
    /// Leases taken before the last write of their holder has landed.
    pub(super) early_rescues: Vec<String>,
    /// Changes of final jobs.
    pub(super) changed_when_final: Vec<String>,
    /// Open jobs without a next run time.
    pub(super) without_run_time: Vec<String>,
    /// When jobs were claimed.
    pub(super) pace: ClaimPace,
    jobs: HashMap<Uuid, TrackedJob>,
    /// Running job by lock key.
    locks: HashMap<String, Uuid>,
}

/// Observed state of a job.
#[derive(Debug, Clone, Default)]
struct TrackedJob {
    state: String,
    lock: String,
    token: Option<Bson>,
    expires_at: Option<DateTime>,
    has_run_at: bool,
}

impl Observations {
    /// Whether the stored job's end, if it is final, was observed.
    pub(super) fn saw_end_of(&self, job: &Job) -> bool {
        let tracked = uuid(&job.id.into()).and_then(|id| self.jobs.get(&id));
        tracked.is_some_and(|tracked| tracked.is_final() || !job.state.is_final())
    }

    /// Number of observed jobs.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Applies a change from the stream.
    pub(super) fn apply(&mut self, change: ChangeStreamEvent<Document>) {
        let key = change.document_key.as_ref();
        let Some(id) = key.and_then(|key| key.get("_id")).and_then(uuid) else {
            return;
        };
        let at = change.wall_time.unwrap_or_else(clock::now);
        let changed = match (change.operation_type, change.full_document) {
            (OperationType::Insert, Some(job)) => (job, Vec::new()),
            (OperationType::Update, _) => match change.update_description {
                Some(update) => (update.updated_fields, update.removed_fields),
                None => return,
            },
            _ => {
                let violation = format!("job {id} was removed");
                return push_violation(&mut self.changed_when_final, violation);
            }
        };
        self.apply_fields(id, &changed.0, &changed.1, at);
    }

    fn apply_fields(&mut self, id: Uuid, fields: &Document, removed: &[String], at: DateTime) {
        self.changes += 1;
        let before = self.jobs.get(&id).cloned().unwrap_or_default();
        if before.is_final() && !is_annotation(fields, removed) {
            let names: Vec<&String> = fields.keys().chain(removed).collect();
            let violation = format!("job {id}, {}: {names:?}", before.state);
            push_violation(&mut self.changed_when_final, violation);
        }
        let mut after = before.clone();
        after.unset(removed);
        after.merge(fields);
        if is_rescue(fields) {
            self.rescues += 1;
            self.check_rescue(id, &before, fields);
        }
        self.check_lock(id, &before, &after);
        if before.state.is_empty() {
            self.pace.enqueued(id, fields.get_i32("priority").ok(), at);
        } else if after.is_running() && !before.is_running() {
            self.pace.claimed(id, at);
        } else if after.is_final() {
            self.pace.finished(id);
        }
        if !after.has_run_time() {
            let violation = format!("job {id}, {}", after.state);
            push_violation(&mut self.without_run_time, violation);
        }
        self.jobs.insert(id, after);
    }

    /// A lock key is held by one job, with one lease, at a time.
    fn check_lock(&mut self, id: Uuid, before: &TrackedJob, after: &TrackedJob) {
        if before.is_running() && after.is_running() {
            if before.token != after.token {
                let violation = format!("job {id} has a second lease without a release in between");
                push_violation(&mut self.lease_conflicts, violation);
            }
        } else if after.is_running() {
            self.claims += 1;
            let other = self.locks.insert(after.lock.clone(), id);
            if let Some(other) = other {
                let violation = format!("jobs {other} and {id} run with lock key {}", after.lock);
                push_violation(&mut self.lease_conflicts, violation);
            }
        } else if before.is_running() {
            self.locks.remove(&before.lock);
        }
    }

    /// A lease is taken only once the last write of its holder has landed. Compares with the time MongoDB wrote
    /// (`updatedAt`), since the clock of the change stream lags on a busy machine.
    fn check_rescue(&mut self, id: Uuid, before: &TrackedJob, fields: &Document) {
        let at = fields.get_datetime("updatedAt").ok();
        if let Some(expires_at) = before.expires_at
            && at.is_none_or(|at| clock::later(expires_at, MIN_RESCUE_DELAY) > *at)
        {
            let violation = format!(
                "job {id} was rescued at {at:?}, and its lease was valid until {expires_at}"
            );
            push_violation(&mut self.early_rescues, violation);
        }
    }
}

impl TrackedJob {
    fn is_running(&self) -> bool {
        self.state == "running"
    }

    fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "discarded" | "cancelled")
    }

    fn has_run_time(&self) -> bool {
        match self.state.as_str() {
            "available" => self.has_run_at,
            "running" => self.expires_at.is_some() && self.token.is_some(),
            _ => true,
        }
    }

    /// Applies updated fields, which are whole subdocuments or paths.
    fn merge(&mut self, fields: &Document) {
        let lease = fields.get_document("lease").ok();
        let of_lease = |name: &str| {
            let by_path = fields.get(format!("lease.{name}"));
            by_path.or_else(|| lease?.get(name)).cloned()
        };
        if let Some(token) = of_lease("token") {
            self.token = Some(token);
        }
        if let Some(Bson::DateTime(expires_at)) = of_lease("until") {
            self.expires_at = Some(expires_at);
        }
        if let Ok(state) = fields.get_str("state") {
            state.clone_into(&mut self.state);
        }
        if let Ok(lock) = fields.get_str("lockKey") {
            lock.clone_into(&mut self.lock);
        }
        self.has_run_at |= fields.get_datetime("runAt").is_ok();
    }

    fn unset(&mut self, fields: &[String]) {
        for field in fields {
            match field.as_str() {
                "lease" => (self.token, self.expires_at) = (None, None),
                "lease.token" => self.token = None,
                "lease.until" => self.expires_at = None,
                "runAt" => self.has_run_at = false,
                _ => {}
            }
        }
    }
}

/// Whether an update of a final job only says what an operator did with it: requeued it as another job, or dismissed it.
fn is_annotation(fields: &Document, removed: &[String]) -> bool {
    let is_free =
        |name: &str| matches!(name, "requeuedTo" | "dismissed" | "revision" | "updatedAt");
    removed.is_empty() && fields.keys().all(|name| is_free(name))
}

/// Whether the last attempt in the change ended as a rescue. Once the list is full, earlier attempts move up and are
/// part of the change.
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

/// The id, if it is one.
pub(super) fn uuid(id: &Bson) -> Option<Uuid> {
    match id {
        Bson::Binary(binary) => binary.to_uuid().ok(),
        _ => None,
    }
}

/// Adds a violation, unless there are many.
fn push_violation(violations: &mut Vec<String>, violation: String) {
    if violations.len() < MAX_VIOLATIONS {
        violations.push(violation);
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

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

    fn observed(changes: &[(Uuid, Document)]) -> Observations {
        let mut observed = Observations::default();
        for (id, fields) in changes {
            let gives_back = fields
                .get_str("state")
                .is_ok_and(|state| state != "running");
            let removed: &[String] = if gives_back {
                &["lease".to_owned()]
            } else {
                &[]
            };
            observed.apply_fields(*id, fields, removed, at(0));
        }
        observed
    }

    #[test]
    fn a_normal_job_history_has_no_violations() {
        let observed = observed(&[
            (JOB, waiting()),
            (OTHER, waiting()),
            (JOB, claimed(1)),
            (JOB, doc! { "lease.until": at(1_500) }),
            (JOB, rescued(2_501)),
            (OTHER, claimed(2)),
            (OTHER, doc! { "state": "completed" }),
            (JOB, claimed(3)),
            (JOB, doc! { "state": "discarded" }),
        ]);

        assert_eq!((observed.claims, observed.rescues), (3, 1));
        assert!(
            observed.early_rescues.is_empty(),
            "{:?}",
            observed.early_rescues
        );
        assert!(
            observed.lease_conflicts.is_empty(),
            "{:?}",
            observed.lease_conflicts
        );
        assert!(observed.changed_when_final.is_empty());
        assert!(observed.without_run_time.is_empty());
    }

    #[test]
    fn two_running_jobs_with_one_lock_key_are_reported() {
        let observed = observed(&[
            (JOB, waiting()),
            (OTHER, waiting()),
            (JOB, claimed(1)),
            (OTHER, claimed(2)),
        ]);

        assert_eq!(observed.lease_conflicts.len(), 1);
    }

    #[test]
    fn a_lease_taken_before_the_last_write_of_its_holder_has_landed_is_reported() {
        let stolen = observed(&[(JOB, waiting()), (JOB, claimed(1)), (JOB, claimed(2))]);
        let rescued = |at| {
            let observed = observed(&[(JOB, waiting()), (JOB, claimed(1)), (JOB, rescued(at))]);
            observed.early_rescues.len()
        };

        assert_eq!(stolen.lease_conflicts.len(), 1);
        assert_eq!([999, 1_001, 2_001].map(rescued), [1, 1, 0]);
    }

    #[test]
    fn only_the_last_attempt_of_a_full_list_counts_as_a_rescue() {
        let ended = |last: Document| {
            let mut fields = doc! { "state": "available", "updatedAt": at(500) };
            // An earlier attempt that has moved up.
            fields.insert("attempts.6", doc! { "outcome": "rescue" });
            fields.extend(last);
            let observed = observed(&[(JOB, waiting()), (JOB, claimed(1)), (JOB, fields)]);
            (observed.rescues, observed.early_rescues.len())
        };

        let released = ended(doc! { "attempts.19": { "outcome": "release" } });
        let rescued = ended(doc! { "attempts.19": { "outcome": "rescue" } });
        let by_path = ended(doc! { "attempts.19.n": 21, "attempts.19.outcome": "rescue" });

        assert_eq!(released, (0, 0));
        assert_eq!((rescued, by_path), ((1, 1), (1, 1)));
    }

    #[test]
    fn a_change_of_a_final_job_is_reported_unless_it_records_an_action_of_an_operator() {
        let requeued = doc! { "requeuedTo": OTHER, "revision": 3_i64, "updatedAt": at(9) };
        let observed = observed(&[
            (JOB, doc! { "state": "completed" }),
            (JOB, requeued),
            (JOB, doc! { "steps.0.state": "ok" }),
        ]);

        assert_eq!(observed.changed_when_final.len(), 1);
    }

    #[test]
    fn an_open_job_without_a_run_time_is_reported() {
        let observed = observed(&[
            (JOB, doc! { "state": "available", "lockKey": "tenant:1" }),
            (OTHER, doc! { "state": "running", "lockKey": "tenant:2" }),
        ]);

        assert_eq!(observed.without_run_time.len(), 2);
    }
}
