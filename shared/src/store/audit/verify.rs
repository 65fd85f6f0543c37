//! Audit verification: walks a hash chain and compares the stored events with their seals.

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::options::Hint;

use super::{AuditRepository, READ_BATCH, StoreError, UNNUMBERED_INDEX};
use crate::{
    audit::hash_chain::{Chain, ChainProblem, Link, ProblemKind},
    id::AuditEventId,
};

/// Maximum number of reported problems.
pub const MAX_PROBLEMS: usize = 100;

/// Result of verifying a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The chain at the start of the verification.
    pub chain: Chain,
    /// Number of verified events.
    pub checked: u64,
    /// First verified sequence number.
    pub first_seq: Option<i64>,
    /// Last verified sequence number.
    pub last_seq: Option<i64>,
    /// Number of unsealed events.
    pub unsealed: u64,
    /// Problems found, at most [`MAX_PROBLEMS`].
    pub problems: Vec<ChainProblem>,
}

impl AuditRepository {
    /// Verifies a chain from its anchor to its head, in small batches. Events sealed during the verification are
    /// ignored, and events deleted by retention during it are not reported as missing.
    pub async fn verify(&self, chain: Chain) -> Result<Verification, StoreError> {
        let trail = chain.tenant_id;
        let sealed = doc! { "$gt": chain.anchor.seq, "$lte": chain.head.seq };
        let mut events = self
            .stored()
            .find(doc! { "tenantId": trail, "seq": sealed })
            .sort(doc! { "seq": 1 })
            .batch_size(READ_BATCH)
            .await?;
        let mut walk = ChainVerifier::from(chain);
        while let Some(event) = events.try_next().await? {
            walk.step(&event);
        }
        walk.end();
        let mut found = walk.found;
        self.check_after_head(&mut found).await?;
        self.check_unnumbered(&mut found).await?;
        found.problems.truncate(MAX_PROBLEMS);
        let unsealed = doc! { "sealed": false, "tenantId": trail };
        found.unsealed = self.events.count_documents(unsealed).await?;
        Ok(found)
    }

    /// Reports events that are neither in a chain nor flagged for sealing.
    async fn check_unnumbered(&self, found: &mut Verification) -> Result<(), StoreError> {
        let trail = found.chain.tenant_id;
        let stray: Vec<Document> = self
            .stored()
            .find(doc! { "tenantId": trail, "sealed": { "$ne": false }, "seq": null })
            .limit(i64::try_from(MAX_PROBLEMS).unwrap_or(i64::MAX))
            .hint(Hint::Name(UNNUMBERED_INDEX.to_owned()))
            .await?
            .try_collect()
            .await?;
        let problems = stray.iter();
        let problems = problems.map(|event| problem_at(event, ProblemKind::Stray));
        found.problems.splice(0..0, problems);
        Ok(())
    }

    /// Compares the result with the current chain, and reports events before the anchor or after the head.
    async fn check_after_head(&self, found: &mut Verification) -> Result<(), StoreError> {
        let trail = found.chain.tenant_id;
        let last = self
            .stored()
            .find_one(doc! { "tenantId": trail, "seq": { "$gt": 0 } })
            .sort(doc! { "seq": -1 })
            .await?;
        // Chain and events change in one transaction: events read before this read of the chain are not beyond its
        // head, and events read after it were not left behind its anchor.
        let Chain { head, anchor, .. } = self.find_chain(trail).await?;
        let left = self
            .stored()
            .find_one(doc! { "tenantId": trail, "seq": { "$lte": anchor.seq } })
            .await?;

        found.problems.retain(|problem| {
            problem.kind != ProblemKind::Missing || problem.last_seq > anchor.seq
        });
        for problem in &mut found.problems {
            if problem.kind == ProblemKind::Missing {
                problem.seq = problem.seq.max(anchor.seq + 1);
            }
        }
        if let Some(left) = left {
            let problem = problem_at(&left, ProblemKind::Anchor);
            found.problems.insert(0, problem);
        }
        let is_beyond = |last: &Document| last.get_i64("seq").is_ok_and(|seq| seq > head.seq);
        if let Some(last) = last.filter(is_beyond) {
            let problem = problem_at(&last, ProblemKind::Head);
            found.problems.insert(0, problem);
        }
        Ok(())
    }
}

/// Verification in progress.
struct ChainVerifier {
    found: Verification,
    /// Link of the preceding event; missing if that event is missing.
    previous: Option<Link>,
    next_seq: i64,
}

impl From<Chain> for ChainVerifier {
    fn from(chain: Chain) -> Self {
        Self {
            previous: Some(chain.anchor.clone()),
            next_seq: chain.anchor.seq + 1,
            found: Verification {
                chain,
                checked: 0,
                first_seq: None,
                last_seq: None,
                unsealed: 0,
                problems: Vec::new(),
            },
        }
    }
}

impl ChainVerifier {
    fn step(&mut self, event: &Document) {
        let seq = event.get_i64("seq").unwrap_or(self.next_seq);
        self.miss_until(seq);
        let found = &mut self.found;
        found.checked += 1;
        found.first_seq.get_or_insert(seq);
        found.last_seq = Some(seq);
        // After a gap, the event's own `prevHash` is the only reference.
        let previous = self.previous.take().unwrap_or_else(|| Link {
            seq: seq - 1,
            hash: event.get_str("prevHash").unwrap_or_default().to_owned(),
        });
        if let Err(kind) = previous.verify_next(event) {
            self.report(problem_at(event, kind));
        }
        // The successor was sealed against this event's stored hash.
        self.previous = Some(Link {
            seq,
            hash: event.get_str("hash").unwrap_or_default().to_owned(),
        });
        self.next_seq = seq + 1;
    }

    fn end(&mut self) {
        let head = self.found.chain.head.clone();
        self.miss_until(head.seq + 1);
        if self.previous.as_ref().is_some_and(|last| *last != head) {
            self.report(problem(head.seq, head.seq, ProblemKind::Head));
        }
    }

    /// Reports the missing events before `seq`.
    fn miss_until(&mut self, seq: i64) {
        if self.next_seq < seq {
            self.report(problem(self.next_seq, seq - 1, ProblemKind::Missing));
            self.previous = None;
            self.next_seq = seq;
        }
    }

    fn report(&mut self, problem: ChainProblem) {
        if self.found.problems.len() < MAX_PROBLEMS {
            self.found.problems.push(problem);
        }
    }
}

fn problem(seq: i64, last_seq: i64, kind: ProblemKind) -> ChainProblem {
    ChainProblem {
        seq,
        last_seq,
        kind,
        event_id: None,
    }
}

fn problem_at(event: &Document, kind: ProblemKind) -> ChainProblem {
    let seq = event.get_i64("seq").unwrap_or(0);
    let id = event.get("_id").cloned();
    ChainProblem {
        event_id: id.and_then(|id| bson::deserialize_from_bson::<AuditEventId>(id).ok()),
        ..problem(seq, seq, kind)
    }
}
