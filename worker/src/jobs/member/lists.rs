//! Mailing lists that deliver to the mailbox of a member who is being removed.
//!
//! Only the mail server knows its lists, and the api calls no upstream: the request for a removal cannot be rejected because
//! of them. The suspension that the request enqueues looks for them instead, and names them in the condition `Removable`,
//! as long before the purge as the member can be restored. The purge looks again, and keeps a mailbox that is still named.

use std::{collections::BTreeSet, fmt::Write as _};

use bson::DateTime;
use dezky_shared::{
    member::{Mailbox, Member},
    queue::error_code::{ErrorClass, ErrorCode},
    store::VersionedRepository as _,
    tenant::{Condition, ConditionStatus},
};
use dezky_upstreams::clients::stalwart::Stalwart;
use futures::FutureExt as _;

use super::MemberTarget;
use crate::steps::{StepContext, StepFailure};

/// Condition type of a member: the mailbox can be destroyed. Present only while a list prevents it.
const REMOVABLE: &str = "Removable";
/// Maximum number of lists in a message.
const MAX_LISTS: usize = 20;

/// Looks for lists in the tenant's domains that name an address of the mailbox, and records them in the member's condition.
/// Returns them in words, or `None` if there are none.
pub(super) async fn check(
    run: &StepContext,
    client: &Stalwart,
    target: &MemberTarget,
    mailbox: &Mailbox,
) -> Result<Option<String>, StepFailure> {
    let domains = target.tenant.mail_domains.iter();
    let domains: BTreeSet<&str> = domains.map(|domain| domain.id.as_str()).collect();
    let lists = client.find_lists_naming(&domains, &mailbox.addresses);
    let lists = in_words(&lists.await?);
    record(run, target, lists.as_deref()).await?;
    Ok(lists)
}

/// Clears the condition of a member who is not being removed any more.
pub(super) async fn clear(run: &StepContext, target: &MemberTarget) -> Result<(), StepFailure> {
    record(run, target, None).await
}

async fn record(
    run: &StepContext,
    target: &MemberTarget,
    lists: Option<&str>,
) -> Result<(), StepFailure> {
    if is_recorded(&target.member, lists) {
        return Ok(());
    }
    run.fenced_transaction((run, target, lists), |session, (run, target, lists)| {
        async move {
            let (members, now) = (&run.ctx.members, run.ctx.store.now());
            let id = target.member.id;
            if let Some(mut member) = members.find_for_update(session, id).await? {
                set_condition(&mut member, *lists, now);
                members.save(session, &member).await?;
            }
            Ok(())
        }
        .boxed()
    })
    .await
}

fn is_recorded(member: &Member, lists: Option<&str>) -> bool {
    let mut conditions = member.conditions.iter();
    let recorded = conditions.find(|condition| condition.kind == REMOVABLE);
    recorded.map(|condition| condition.message.clone()) == lists.map(message)
}

fn set_condition(member: &mut Member, lists: Option<&str>, now: DateTime) {
    let Some(lists) = lists else {
        let conditions = &mut member.conditions;
        conditions.retain(|condition| condition.kind != REMOVABLE);
        return;
    };
    member.set_condition(Condition {
        kind: REMOVABLE.to_owned(),
        status: ConditionStatus::False,
        reason: ErrorCode::MailboxInUse.reason().to_owned(),
        message: message(lists),
        observed_generation: member.generation,
        last_transition_at: now,
        next_attempt_at: None,
        class: Some(ErrorClass::UserAction),
    });
    member.updated_at = now;
}

fn message(lists: &str) -> String {
    format!(
        "Mail to {lists} is delivered to this mailbox, which is kept until no list names it. Remove its addresses from \
         the lists."
    )
}

/// The lists in words; `None` if there are none.
fn in_words(lists: &[String]) -> Option<String> {
    if lists.is_empty() {
        return None;
    }
    let shown = lists.len().min(MAX_LISTS);
    let mut words = lists[..shown].join(", ");
    if lists.len() > shown {
        let _ = write!(words, " and {} more", lists.len() - shown);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_twenty_lists_are_named() {
        let lists: Vec<String> = (0..23).map(|n| format!("l{n}@acme.test")).collect();

        let words = in_words(&lists).unwrap();

        assert!(words.starts_with("l0@acme.test, l1@acme.test"), "{words}");
        assert!(words.ends_with("l19@acme.test and 3 more"), "{words}");
        assert_eq!(in_words(&[]), None);
    }
}
