//! The representation of a person in a tenant.

use bson::DateTime;
use dezky_shared::{
    member::{AccountOrigin, MailAddress, Mailbox, Member, MemberStatus, PasswordScope, SignOut},
    user::{Role, User},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Person;
use crate::{
    routes::mfa::MfaView,
    timestamp::Timestamp,
    views::{ConditionView, ErrorsView, JobLink, StatusView},
};

/// A person in a tenant: a member whose accounts are managed here, or one who is known by a group at the identity
/// provider or an operator's grant (`managed: false`).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantUser)]
pub(in crate::routes) struct TenantUserView {
    /// Id: of the member, or of the user if the person is not managed.
    id: String,
    /// Id of the user, once the account at the identity provider is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    user_id: Option<String>,
    /// Whether the accounts of the person are managed here.
    managed: bool,
    /// E-mail address; the login of a managed member.
    email: String,
    /// Name.
    name: String,
    /// Role: `member`, `admin` or `owner`. While a member is suspended or removed, the one that a resume or restore brings
    /// back.
    role: Role,
    /// Status. Managed: `pending`, `active`, `suspended` or `removing`. Others: `active` or `invited` (not signed in yet).
    status: PersonStatus,
    /// Time of the last request, accurate to a few minutes. Missing for an account that the person had before.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Timestamp>,
    /// Second factors, if they were looked up. Missing for an account that the person had before.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa: Option<MfaView>,
    /// Accounts of a managed member.
    #[serde(flatten)]
    accounts: AccountsView,
    /// Incremented by every change of the member; for others of the user, including changes in other tenants.
    revision: i64,
    /// Job that carries out the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<JobLink>,
    /// One-time password, once: null in a replayed response. Only in the response that creates the member or resets the
    /// password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) one_time_password: Option<String>,
    /// Scope of the one-time password: `all` (sign-in and mailbox), `signIn`, or `mailbox` if the person's sign-in
    /// password is their own. Of a new member it is expected, until the job has found whether an account exists; with
    /// `Prefer: wait`, it is what the job has set, and null (with a null password) if that is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password_scope: Option<PasswordScope>,
    /// True in a replayed response.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_already_shown: Option<bool>,
}

/// Status of a person.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TenantUserStatus)]
enum PersonStatus {
    /// Accounts are being created.
    Pending,
    /// Works; for others than members, has signed in.
    Active,
    /// Suspended by an admin.
    Suspended,
    /// Removed, and restorable until `purgeAt`.
    Removing,
    /// Removed from every system.
    Removed,
    /// Has not signed in.
    Invited,
}

/// Origin of the account at the identity provider.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SignInOrigin {
    /// Created for this member.
    Created,
    /// The person had it before.
    Existing,
}

/// The accounts of a managed member. All fields are missing for other people.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantUserAccounts)]
struct AccountsView {
    /// `created` for an account that was created for this member, `existing` for one that the person had before. Missing
    /// until it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_in: Option<SignInOrigin>,
    /// Mailbox. Missing for a member without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    mailbox: Option<MailboxView>,
    /// User who suspended the member.
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended_by: Option<String>,
    /// Time of the permanent removal: mail and files of the person are lost then.
    #[serde(skip_serializing_if = "Option::is_none")]
    purge_at: Option<Timestamp>,
    /// Time of issue of the last one-time password.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_issued_at: Option<Timestamp>,
    /// Result of the last forced sign-out.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_out: Option<SignOutView>,
    /// Provisioning state per upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    provisioning_status: Option<StatusView>,
    /// Last provisioning error per upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    provisioning_errors: Option<ErrorsView>,
    /// Provisioning conditions in detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    conditions: Option<Vec<ConditionView>>,
    /// Incremented by every requested change.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
    /// Creation time.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    /// Time of the last change.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
}

/// A mailbox.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Mailbox)]
struct MailboxView {
    /// Address, which is also the login of mail programs.
    address: String,
    /// Further addresses.
    aliases: Vec<String>,
    /// Quota in bytes. Missing: that of the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota_bytes: Option<i64>,
}

/// Extent of a forced sign-out.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SignOutScope {
    /// All sessions and tokens of the account.
    All,
    /// The tokens of the tenant's apps.
    Apps,
}

/// A forced sign-out.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SignOut)]
struct SignOutView {
    /// Time.
    at: Timestamp,
    /// Number of ended sessions.
    sessions: i32,
    /// Number of revoked tokens and app passwords.
    tokens: i32,
    /// Scope of the sign-out: `all`, or `apps` for the tokens of the tenant's apps alone, because the account belongs to the
    /// person or to another tenant.
    scope: SignOutScope,
    /// Open IMAP connections are not closed: they end when the mail program disconnects.
    #[schema(example = "until_disconnect")]
    open_mail_sessions: &'static str,
}

impl TenantUserView {
    /// The representation of `person`.
    pub(super) fn new(person: &Person) -> Self {
        match person {
            Person::Managed(member, user) => Self::managed(member, user.as_ref()),
            Person::Known(user, role) => Self::known(user, *role),
        }
    }

    fn known(user: &User, role: Role) -> Self {
        Self {
            id: user.id.to_string(),
            user_id: Some(user.id.to_string()),
            managed: false,
            email: user.email.clone(),
            name: user.name.clone(),
            role,
            status: if user.last_seen_at.is_some() {
                PersonStatus::Active
            } else {
                PersonStatus::Invited
            },
            last_seen_at: user.last_seen_at.map(Timestamp::from),
            mfa: user.mfa.clone().map(MfaView::from),
            accounts: AccountsView::default(),
            revision: user.revision,
            job: None,
            one_time_password: None,
            password_scope: None,
            secret_already_shown: None,
        }
    }

    fn managed(member: &Member, user: Option<&User>) -> Self {
        let status = match member.status {
            MemberStatus::Pending => PersonStatus::Pending,
            MemberStatus::Active => PersonStatus::Active,
            MemberStatus::Suspended => PersonStatus::Suspended,
            MemberStatus::Removing => PersonStatus::Removing,
            MemberStatus::Removed => PersonStatus::Removed,
        };
        // The user document of an adopted account tells about the person's life elsewhere.
        let account = member.authentik.as_ref();
        let is_created = account.is_some_and(|account| account.origin == AccountOrigin::Created);
        let seen = user.filter(|_| is_created);
        Self {
            id: member.id.to_string(),
            user_id: member.user_id.map(|id| id.to_string()),
            managed: true,
            email: member.email.clone(),
            name: member.name.clone(),
            role: member.role,
            status,
            last_seen_at: seen.and_then(|user| user.last_seen_at).map(Timestamp::from),
            mfa: seen.and_then(|user| user.mfa.clone()).map(MfaView::from),
            accounts: AccountsView::from(member),
            revision: member.revision,
            job: None,
            one_time_password: None,
            password_scope: None,
            secret_already_shown: None,
        }
    }
}

impl From<&Member> for AccountsView {
    fn from(member: &Member) -> Self {
        let time = |at: Option<DateTime>| at.map(Timestamp::from);
        let conditions = member.conditions.iter().cloned();
        Self {
            sign_in: member
                .authentik
                .as_ref()
                .map(|account| match account.origin {
                    AccountOrigin::Created => SignInOrigin::Created,
                    AccountOrigin::Adopted => SignInOrigin::Existing,
                }),
            mailbox: member.mailbox.as_ref().map(MailboxView::from),
            suspended_by: member.suspended_by.clone(),
            purge_at: time(member.purge_at),
            password_issued_at: time(member.password_issued_at),
            signed_out: member.signed_out.as_ref().map(SignOutView::from),
            provisioning_status: Some(member.provisioning_status.into()),
            provisioning_errors: Some(member.provisioning_errors.clone().into()),
            conditions: Some(conditions.map(ConditionView::from).collect()),
            generation: Some(member.generation),
            created_at: Some(member.created_at.into()),
            updated_at: Some(member.updated_at.into()),
        }
    }
}

impl From<&Mailbox> for MailboxView {
    fn from(mailbox: &Mailbox) -> Self {
        let text = |address: &MailAddress| address.address.clone();
        Self {
            address: text(&mailbox.primary),
            aliases: mailbox.aliases.iter().map(text).collect(),
            quota_bytes: mailbox.quota_bytes,
        }
    }
}

impl From<&SignOut> for SignOutView {
    fn from(done: &SignOut) -> Self {
        Self {
            at: done.at.into(),
            sessions: done.sessions,
            tokens: done.tokens,
            scope: if done.apps_only {
                SignOutScope::Apps
            } else {
                SignOutScope::All
            },
            open_mail_sessions: "until_disconnect",
        }
    }
}
