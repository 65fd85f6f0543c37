//! Members of a tenant: their accounts at the identity provider, the mail server and the file server.

mod attacks;
mod deaths;
mod gone_accounts;
mod lifecycle;
mod lists;
mod odd;
mod ownership;
mod password;
mod provision;
mod shared;
mod tenant;
mod waiting;

use bson::DateTime;
use dezky_shared::{
    id::{DomainId, MemberId},
    member::{MailAddress, Mailbox, Member, MemberSecrets, MemberStatus},
    platform::tls::TrustRoots,
    queue::{
        args::{
            ProvisionMember, RemoveMember, ResetMemberPassword, ResumeMember, SignOutMember,
            SuspendMember,
        },
        job::{Job, JobArgs},
    },
    store::{TransactionError, VersionedRepository as _, jobs::NewJob},
    tenant::Tenant,
    user::{Role, User},
};
use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::{harness::encryption_keys, world::World};

/// One-time password of every member.
pub(crate) const PASSWORD: &str = "k7nq-2wrt9-vxz4h-mpc3f";
/// One-time password of every reset.
pub(crate) const NEXT_PASSWORD: &str = "w4xp-9mkt2-hcv7n-qzr5d";

macro_rules! args {
    ($args:ident, $member:expr) => {
        $args {
            tenant_id: $member.tenant_id,
            member_id: $member.id,
        }
    };
}

impl World {
    /// Adds a member with a mailbox of this local part, as the API does, with a one-time password issued.
    pub(crate) async fn new_member(&self, tenant: &Tenant, local_part: &str) -> Member {
        let address = MailAddress::new(local_part, DomainId::new(), &tenant.domains[0]);
        let email = address.address.clone();
        let mailbox = Mailbox::new(address, Vec::new(), None);
        self.add_member_document(tenant, &email, Some(mailbox))
            .await
    }

    /// Adds a member without a mailbox and with this login.
    pub(crate) async fn new_guest(&self, tenant: &Tenant, email: &str) -> Member {
        self.add_member_document(tenant, email, None).await
    }

    async fn add_member_document(
        &self,
        tenant: &Tenant,
        email: &str,
        mailbox: Option<Mailbox>,
    ) -> Member {
        let context = &self.harness.context;
        let now = context.store.now();
        let mut member = Member::new(tenant.id, email, "Ada King", Role::Member, mailbox, now);
        member.password_issued_at = Some(now);
        let added: Result<(), TransactionError<()>> = context
            .store
            .transaction((&context.members, &member), |session, (members, member)| {
                async move { Ok(members.insert(session, member).await?) }.boxed()
            })
            .await;
        added.unwrap();
        member
    }

    /// Adds a member and provisions the accounts.
    pub(crate) async fn provisioned_member(&self, tenant: &Tenant, local_part: &str) -> Member {
        let member = self.new_member(tenant, local_part).await;
        self.completed(&self.provision_member(&member).await).await;
        let member = self.member(member.id).await;
        assert_eq!(member.status, MemberStatus::Active);
        member
    }

    pub(crate) async fn member(&self, id: MemberId) -> Member {
        self.harness
            .context
            .members
            .find(id)
            .await
            .unwrap()
            .unwrap()
    }

    /// Changes a member as the API does: a new generation with pending steps, and the role that the status grants.
    pub(crate) async fn change_member(
        &self,
        id: MemberId,
        change: impl Fn(&mut Member) + Send,
    ) -> Member {
        let now = self.harness.context.store.now();
        let edit = move |member: &mut Member| {
            change(member);
            member.begin_generation(now);
        };
        self.edit_member(id, edit).await
    }

    /// Changes the role alone as the API does: a new generation without a job.
    pub(crate) async fn change_role(&self, id: MemberId, role: Role) -> Member {
        let edit = move |member: &mut Member| {
            member.role = role;
            member.begin_generation_in_sync();
        };
        self.edit_member(id, edit).await
    }

    async fn edit_member(&self, id: MemberId, edit: impl Fn(&mut Member) + Send) -> Member {
        let context = &self.harness.context;
        let now = context.store.now();
        let changed: Result<Member, TransactionError<()>> = context
            .store
            .transaction((&**context, edit), |session, (context, edit)| {
                async move {
                    let members = &context.members;
                    let mut member = members.find_for_update(session, id).await?.unwrap();
                    edit(&mut member);
                    members.save(session, &member).await?;
                    if let Some(user_id) = member.user_id {
                        let users = &context.users;
                        let mut user = users.find_for_update(session, user_id).await?.unwrap();
                        user.set_role(member.tenant_id, member.granted_role(), now);
                        users.save(session, &user).await?;
                    }
                    Ok(member)
                }
                .boxed()
            })
            .await;
        changed.unwrap()
    }

    /// Enqueues the provisioning of a member, with the issued password.
    pub(crate) async fn provision_member(&self, member: &Member) -> Job {
        let member = self.member(member.id).await;
        self.provision_as_issued(&member).await
    }

    /// Enqueues the provisioning with the password that was issued with this state of the member.
    pub(crate) async fn provision_as_issued(&self, member: &Member) -> Job {
        self.enqueue_with_password(&args!(ProvisionMember, member), member, PASSWORD)
            .await
    }

    /// Enqueues the provisioning of a changed member, which carries no password.
    pub(crate) async fn update_member(&self, member: &Member) -> Job {
        self.harness.enqueue(&args!(ProvisionMember, member)).await
    }

    pub(crate) async fn suspend_member(&self, member: &Member) -> Job {
        self.change_member(member.id, |member| member.status = MemberStatus::Suspended)
            .await;
        self.harness.enqueue(&args!(SuspendMember, member)).await
    }

    pub(crate) async fn resume_member(&self, member: &Member) -> Job {
        self.change_member(member.id, |member| member.status = MemberStatus::Active)
            .await;
        self.harness.enqueue(&args!(ResumeMember, member)).await
    }

    /// Requests the removal of a member, and enqueues the suspension that comes first.
    pub(crate) async fn delete_member(&self, member: &Member, purge_at: DateTime) -> Job {
        self.change_member(member.id, |member| {
            member.status_before = Some(member.status);
            member.status = MemberStatus::Removing;
            member.purge_at = Some(purge_at);
        })
        .await;
        self.harness.enqueue(&args!(SuspendMember, member)).await
    }

    /// Enqueues the purge of a member.
    pub(crate) async fn purge_member(&self, member: &Member) -> Job {
        self.harness.enqueue(&args!(RemoveMember, member)).await
    }

    /// Requests the removal of a member without a restore period, and enqueues the purge.
    pub(crate) async fn remove_member_now(&self, member: &Member) -> Job {
        let now = self.harness.context.store.now();
        self.change_member(member.id, |member| {
            member.status = MemberStatus::Removing;
            member.purge_at = Some(now);
        })
        .await;
        self.purge_member(member).await
    }

    pub(crate) async fn sign_out_member(&self, member: &Member) -> Job {
        self.harness.enqueue(&args!(SignOutMember, member)).await
    }

    /// Issues another one-time password, and enqueues its reset.
    pub(crate) async fn reset_password(&self, member: &Member) -> Job {
        let now = self.harness.context.store.now();
        let member = self
            .change_member(member.id, |member| member.password_issued_at = Some(now))
            .await;
        self.repeat_reset(&member).await
    }

    /// Enqueues the reset of the password that was issued last.
    pub(crate) async fn repeat_reset(&self, member: &Member) -> Job {
        let member = self.member(member.id).await;
        self.enqueue_with_password(&args!(ResetMemberPassword, member), &member, NEXT_PASSWORD)
            .await
    }

    async fn enqueue_with_password<A: JobArgs>(
        &self,
        args: &A,
        member: &Member,
        password: &str,
    ) -> Job {
        let context = &self.harness.context;
        let secrets = MemberSecrets {
            password: password.to_owned(),
            issued_at: member.password_issued_at.unwrap(),
        };
        let new = NewJob::new(args, "test", context.store.now())
            .unwrap()
            .with_secrets(&encryption_keys(), &secrets)
            .unwrap();
        let job = self.harness.enqueue_new(&new).await;
        context.ready.notify(std::slice::from_ref(&job)).await;
        job
    }

    /// Whether the person can sign in with the password at the identity provider.
    pub(crate) fn signs_in(&self, login: &str, password: &str) -> bool {
        self.upstreams.authentik.sign_in(login, password).is_ok()
    }

    /// The status of a login to the mailbox over JMAP: 200, 401 for a wrong password, 403 while it is frozen.
    pub(crate) async fn opens_mailbox(&self, address: &str, password: &str) -> u16 {
        let url = format!("{}/jmap/session", self.upstreams.stalwart.server.url);
        let http = TrustRoots::default().client_builder().build().unwrap();
        let request = http.get(url).basic_auth(address, Some(password));
        request.send().await.unwrap().status().as_u16()
    }

    /// Whether the file server's user of this login is a member of the tenant's space.
    pub(crate) fn sees_space(&self, tenant: &Tenant, login: &str) -> bool {
        let account = self.upstreams.ocis.account(login);
        let space = self.space(tenant).filter(|space| !space.trashed);
        let grants = space.map(|space| space.grants).unwrap_or_default();
        grants.iter().any(|grant| Some(grant.id) == account)
    }

    /// Whether the person can sign in, open the mailbox, and see the space.
    pub(crate) async fn access(&self, tenant: &Tenant, member: &Member) -> (bool, u16, bool) {
        (
            self.signs_in(&member.email, PASSWORD),
            self.opens_mailbox(&member.email, PASSWORD).await,
            self.sees_space(tenant, &member.email),
        )
    }

    /// The user document that the member is linked to.
    pub(crate) async fn user_of(&self, member: &Member) -> User {
        let id = self.member(member.id).await.user_id.unwrap();
        self.harness.context.users.find(id).await.unwrap().unwrap()
    }

    /// The final state of a member's document, without fields that differ between runs.
    pub(crate) async fn member_state(&self, id: MemberId) -> Value {
        let member = self.member(id).await;
        let reasons = member.conditions.iter().map(|it| (&it.kind, &it.reason));
        let mailbox = member.mailbox.as_ref();
        json!({
            "status": member.status,
            "errors": member.provisioning_errors,
            "conditions": reasons.collect::<Vec<_>>(),
            "isLinked": member.user_id.is_some(),
            "account": member.authentik.as_ref().map(|it| it.origin),
            "files": member.ocis.as_ref().map(|it| it.origin),
            "hasMailbox": mailbox.map(|it| it.stalwart_account_id.is_some()),
            "hasPassword": member
                .authentik
                .as_ref()
                .map(|it| it.password_issued_at == member.password_issued_at),
            "hasMailboxPassword": mailbox
                .map(|it| it.password_issued_at == member.password_issued_at),
        })
    }
}
