//! Domain lifecycle: claimed, owned, lost.

use std::time::Duration;

use bson::DateTime;

use super::{
    Dmarc, Domain, DomainStatus, HISTORY_LENGTH, HistoryEntry, OWNED, OwnershipProof,
    check::{CheckKind, Record},
    reason,
};
use crate::{
    id::{DomainId, TenantId},
    platform::clock,
    queue::error_code::ErrorClass,
    tenant::{Condition, ConditionStatus},
};

/// Delay of the first ownership check after a claim: the token was unknown before the claim.
const FIRST_LOOK: Duration = Duration::from_mins(1);

impl Domain {
    /// Creates a tenant's claim to a name, with a token of its own.
    pub fn claim(tenant_id: TenantId, name: &str, dmarc: Dmarc, now: DateTime) -> Self {
        let mut domain = Self {
            id: DomainId::new(),
            tenant_id,
            name: name.to_owned(),
            token: format!("{:032x}", rand::random::<u128>()),
            owned_by: None,
            owned_at: None,
            status: DomainStatus::Pending,
            removing: false,
            primary: false,
            wants_primary: false,
            dmarc,
            expected: Vec::new(),
            checks: Vec::new(),
            checked_at: None,
            next_check_at: Some(clock::later(now, FIRST_LOOK)),
            expected_since: now,
            recheck_asked_at: None,
            conditions: Vec::new(),
            history: Vec::new(),
            generation: 1,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        domain.push_status(None, None, now);
        domain.set_owned(
            ConditionStatus::Unknown,
            reason::AWAITING_PROOF,
            "Publish the ownership record to prove that you own this domain.",
            now,
        );
        domain
    }

    /// Whether nothing is expected to change without an action: it was verified or has failed, and is not being removed.
    pub const fn is_settled(&self) -> bool {
        !self.removing && !matches!(self.status, DomainStatus::Pending)
    }

    /// Whether the tenant owns the domain, which provisioning requires.
    pub const fn is_owned(&self) -> bool {
        self.owned_by.is_some()
    }

    /// DNS record that proves ownership.
    pub fn ownership_record(&self) -> Record {
        Record {
            name: format!("_dezky.{}", self.name),
            kind: "TXT".to_owned(),
            value: format!("dezky-verification={}", self.token),
            check: Some(CheckKind::Ownership),
        }
    }

    /// Marks the domain as owned and schedules a DNS check.
    pub(crate) fn mark_owned(&mut self, by: OwnershipProof, now: DateTime) {
        self.owned_by = Some(by);
        self.owned_at = Some(now);
        self.expected_since = now;
        self.next_check_at = Some(now);
        self.set_status(DomainStatus::Pending, None, now);
        let (reason, message) = match by {
            OwnershipProof::Proof => (reason::PROVED, "The ownership record was found."),
            OwnershipProof::Operator => {
                (reason::SET_BY_OPERATOR, "Our team confirmed the ownership.")
            }
        };
        self.set_owned(ConditionStatus::True, reason, message, now);
    }

    /// Marks the claim as lost to another tenant.
    pub fn mark_lost(&mut self, now: DateTime) {
        self.next_check_at = None;
        self.set_status(DomainStatus::Failed, Some("taken_by_another"), now);
        self.set_owned(
            ConditionStatus::False,
            reason::TAKEN,
            "Another workspace proved ownership of this domain.",
            now,
        );
    }

    /// Sets the status and adds the change with its stable reason code to the history.
    pub fn set_status(&mut self, status: DomainStatus, code: Option<&str>, now: DateTime) {
        let before = std::mem::replace(&mut self.status, status);
        if before != status {
            self.push_status(Some(before), code, now);
        }
    }

    /// Appends to the history and drops the oldest entries.
    pub fn push_history(&mut self, entry: HistoryEntry) {
        self.history.push(entry);
        let forgotten = self.history.len().saturating_sub(HISTORY_LENGTH);
        self.history.drain(..forgotten);
    }

    /// Replaces the condition of the same type. The transition time is kept if the status is unchanged.
    pub fn set_condition(&mut self, condition: Condition) {
        condition.set_in(&mut self.conditions);
    }

    fn push_status(&mut self, from: Option<DomainStatus>, code: Option<&str>, now: DateTime) {
        self.push_history(HistoryEntry {
            at: now,
            what: "status".to_owned(),
            from: from.map(|status| status.to_string()),
            to: self.status.to_string(),
            code: code.map(str::to_owned),
        });
    }

    fn set_owned(&mut self, status: ConditionStatus, reason: &str, message: &str, now: DateTime) {
        self.set_condition(Condition {
            kind: OWNED.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: self.generation,
            last_transition_at: now,
            next_attempt_at: self.next_check_at,
            class: (status != ConditionStatus::True).then_some(ErrorClass::UserAction),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Domain {
        let tenant = TenantId::from_bytes([7; 16]);
        Domain::claim(
            tenant,
            "acme.dk",
            Dmarc::default(),
            DateTime::from_millis(1),
        )
    }

    #[test]
    fn every_claim_has_its_own_token() {
        let record = claim().ownership_record();

        let token = record.value.strip_prefix("dezky-verification=").unwrap();
        assert_eq!(record.name, "_dezky.acme.dk");
        assert_eq!(token.len(), 32);
        assert_ne!(claim().token, claim().token);
    }

    #[test]
    fn the_history_holds_only_the_latest_changes() {
        let mut domain = claim();
        let now = DateTime::from_millis(2);
        domain.set_status(DomainStatus::Pending, None, now);
        assert_eq!(domain.history.len(), 1);

        for n in 0..HISTORY_LENGTH {
            let status = [DomainStatus::Verified, DomainStatus::Attention][n % 2];
            domain.set_status(status, Some("mx_missing"), now);
        }

        assert_eq!(domain.history.len(), HISTORY_LENGTH);
        assert_eq!(domain.history[0].from.as_deref(), Some("pending"));
    }

    #[test]
    fn a_lost_claim_is_not_checked_until_requested() {
        let mut domain = claim();

        domain.mark_lost(DateTime::from_millis(2));

        assert_eq!(
            (domain.status, domain.next_check_at),
            (DomainStatus::Failed, None)
        );
        assert_eq!(domain.conditions.len(), 1);
        assert_eq!(domain.conditions[0].reason, reason::TAKEN);
    }
}
