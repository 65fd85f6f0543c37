//! One-time passwords and client secrets, as customers were told them: the latest is in force.

use std::collections::HashMap;

use bson::Bson;
use dezky_shared::{
    app::{AppStatus, condition::SECRET_ROTATED},
    audit::{Action, ActorKind, AuditEvent},
    member::{Member, MemberStatus},
    queue::job::JobState,
    upstream::Upstream,
};
use secrecy::{ExposeSecret as _, SecretString};

use super::{check::Check, load::RequestLog, stack::Upstreams, stored::Stored};

/// Reason of a member's condition: the account has none of the passwords that were told.
const PASSWORD_MISSING: &str = "PasswordMissing";
/// Actions that issue a secret.
const ISSUING: [Action; 4] = [
    Action::MemberCreate,
    Action::MemberResetPassword,
    Action::AppCreate,
    Action::AppRotateSecret,
];

/// Once its job has completed, the secret that was told last is in force, or the document reports that it is not.
pub(super) fn the_latest_secret_is_in_force(
    requests: &RequestLog,
    stored: &Stored,
    upstreams: &Upstreams,
) -> Check {
    let jobs = stored.jobs_by_id();
    let records = requests.records.iter();
    let job_of: HashMap<&str, &str> = records
        .filter_map(|it| Some((it.id.as_str(), it.reply.as_ref()?.job.as_deref()?)))
        .collect();
    let events = stored.events.iter();
    let event_of: HashMap<&str, &AuditEvent> = events
        .filter(|event| ISSUING.contains(&event.action) && event.actor.kind != ActorKind::System)
        .filter_map(|event| Some((event.origin.request_id.as_deref()?, event)))
        .collect();
    let mut checked = 0;
    let mut violations = Vec::new();
    for told in &requests.secrets {
        let request = told.request.as_str();
        let outcome = job_of.get(request).and_then(|job| jobs.outcome(job));
        let event = event_of.get(request).copied();
        let Some(event) = event.filter(|_| outcome == Some(JobState::Completed)) else {
            continue;
        };
        let in_force = InForce {
            stored,
            upstreams,
            event,
            value: &told.value,
        };
        let found = match event.action {
            Action::MemberCreate | Action::MemberResetPassword => in_force.of_member(),
            _ => in_force.of_app(),
        };
        if let Some(found) = found {
            checked += 1;
            let wrong = found.into_iter();
            violations
                .extend(wrong.map(|wrong| format!("{request}, {}: {wrong}", event.target.name)));
        }
    }
    Check::new("the secret told last is in force", checked, violations)
}

/// A told secret with the event of its issue.
struct InForce<'a> {
    stored: &'a Stored,
    upstreams: &'a Upstreams,
    event: &'a AuditEvent,
    value: &'a SecretString,
}

impl InForce<'_> {
    /// The accounts of the member that have another password. `None` if another one was issued since.
    fn of_member(&self) -> Option<Vec<String>> {
        let mut members = self.stored.members.iter();
        let member = members.find(|member| member.id.to_string() == self.event.target.id)?;
        let issued_at = self.event.after.get_datetime("passwordIssuedAt").ok()?;
        if member.status == MemberStatus::Removed || member.password_issued_at != Some(*issued_at) {
            return None;
        }
        let user = self.upstreams.authentik.user_named(&member.email);
        let mailbox = member.mailbox.as_ref();
        let mailbox = mailbox.and_then(|it| {
            let address = &it.primary.address;
            self.upstreams.stalwart.mailbox_password(address)
        });
        let passwords = [
            (Upstream::Authentik, user.map(|user| user.password)),
            (Upstream::Stalwart, mailbox),
        ];
        let wrong = passwords.into_iter().filter(|(upstream, password)| {
            let Some(password) = password else {
                return false;
            };
            let is_told = password.as_deref() == Some(self.value.expose_secret());
            !is_told && !reports_missing(member, *upstream)
        });
        let wrong = wrong.map(|(upstream, password)| {
            let has_other = password.flatten().is_some();
            format!("the account in {upstream} has another password: {has_other}")
        });
        Some(wrong.collect())
    }

    /// The provider of the app, if it has another secret. `None` if another one was issued since.
    fn of_app(&self) -> Option<Vec<String>> {
        let mut apps = self.stored.apps.iter();
        let app = apps.find(|app| app.id.to_string() == self.event.target.id)?;
        let version = self
            .event
            .after
            .get("secretVersion")
            .and_then(Bson::as_i64)?;
        let is_settled = matches!(app.status, AppStatus::Active | AppStatus::Suspended);
        if app.secret_version != version || !is_settled {
            return None;
        }
        let secret = self.upstreams.authentik.client_secret(&app.client_id);
        let is_told = secret.as_deref() == Some(self.value.expose_secret());
        let is_reported = app.condition(SECRET_ROTATED).is_some();
        let wrong =
            (!is_told && !is_reported).then(|| "the provider has another secret".to_owned());
        Some(wrong.into_iter().collect())
    }
}

fn reports_missing(member: &Member, upstream: Upstream) -> bool {
    let condition = member.condition(upstream);
    condition.is_some_and(|condition| condition.reason == PASSWORD_MISSING)
}
