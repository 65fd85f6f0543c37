use super::*;
use crate::{
    id::DomainId,
    user::{Membership, MembershipSource},
};

const NOW: DateTime = DateTime::from_millis(1_000);

fn member() -> Member {
    let tenant = TenantId::from_bytes([7; 16]);
    let domain = DomainId::from_bytes([8; 16]);
    let address = MailAddress::new("ada", domain, "acme.test");
    let alias = MailAddress::new("lovelace", domain, "acme.test");
    let mailbox = Mailbox::new(address, vec![alias], None);
    let mut member = Member::new(
        tenant,
        "ada@acme.test",
        "Ada King",
        Role::Member,
        Some(mailbox),
        NOW,
    );
    member.authentik = Some(SignInAccount {
        pk: 7,
        subject: "subject".to_owned(),
        origin: AccountOrigin::Created,
        password_issued_at: None,
    });
    member
}

#[test]
fn the_desired_state_follows_from_the_status_and_the_time() {
    let mut member = member();
    let states = MemberStatus::ALL.map(|status| {
        member.status = status;
        member.purge_at = (status == MemberStatus::Removing).then_some(NOW);
        let before = DateTime::from_millis(999);
        (member.desired_state(before), member.desired_state(NOW))
    });

    let same = |state| (state, state);
    let expected = [
        same(DesiredState::Active),
        same(DesiredState::Active),
        same(DesiredState::Suspended),
        (DesiredState::Suspended, DesiredState::Gone),
        same(DesiredState::Gone),
    ];
    assert_eq!(states, expected);
}

#[test]
fn a_version_desires_the_same_unless_it_changes_what_an_upstream_holds() {
    let member = member();
    let desires_same = |change: fn(&mut Member)| {
        let mut changed = member.clone();
        change(&mut changed);
        changed.generation += 1;
        changed.desires_same_as(&member)
    };

    assert!(desires_same(|it| it.role = Role::Admin));
    assert!(desires_same(|it| it.status = MemberStatus::Active));
    assert!(desires_same(|it| it.authentik = None));
    assert!(!desires_same(|it| "Ada Lovelace".clone_into(&mut it.name)));
    assert!(!desires_same(|it| it.status = MemberStatus::Suspended));
    assert!(!desires_same(|it| it.purge_at = Some(NOW)));
    assert!(!desires_same(|it| it.password_issued_at = Some(NOW)));
    assert!(!desires_same(|it| {
        it.mailbox.as_mut().unwrap().set_aliases(Vec::new());
    }));
    assert!(!desires_same(|it| {
        it.mailbox.as_mut().unwrap().quota_bytes = Some(1);
    }));
}

#[test]
fn an_account_is_owned_if_created_here_and_used_nowhere_else_or_in_a_domain_of_the_tenant() {
    let here = member();
    let mut user = User::first_seen("subject", "ada@acme.test", "Ada", NOW);
    user.set_member(here.tenant_id, here.id, Some(Role::Member), NOW);
    assert!(here.owns_account(false, None, false));
    assert!(here.owns_account(false, Some(&user), false));
    assert!(!here.owns_account(false, Some(&user), true));

    let mut adopted = here.clone();
    adopted.authentik.as_mut().unwrap().origin = AccountOrigin::Adopted;
    let mut unknown = here.clone();
    unknown.authentik = None;
    let mut operator = user.clone();
    operator.platform_admin = true;
    let mut partner = user.clone();
    partner.partner_id = Some(crate::id::PartnerId::new());
    let mut elsewhere = user.clone();
    let membership = Membership {
        role: Some(Role::Member),
        source: MembershipSource::Claim,
        changed_at: NOW,
        member_id: None,
    };
    elsewhere.memberships.insert(TenantId::new(), membership);
    assert!(!here.owns_account(false, Some(&elsewhere), false));

    assert!(here.owns_account(true, Some(&elsewhere), true));
    assert!(!adopted.owns_account(true, Some(&user), false));
    assert!(!unknown.owns_account(true, Some(&user), false));
    for privileged in [operator, partner] {
        assert!(!here.owns_account(true, Some(&privileged), false));
    }
}

#[test]
fn a_removed_member_releases_its_addresses_and_grants_no_role() {
    let mut member = member();
    assert_eq!(
        member.words,
        ["acme", "ada", "king", "lovelace", "test"].map(str::to_owned)
    );
    assert_eq!(member.granted_role(), Some(Role::Member));
    assert_eq!(member.mailbox.as_ref().unwrap().addresses.len(), 2);

    member.mark_removed();

    assert!(member.mailbox.as_ref().unwrap().addresses.is_empty());
    assert_eq!(member.granted_role(), None);
    assert!(member.words.is_empty());
}
