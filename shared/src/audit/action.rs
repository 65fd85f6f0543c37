//! Actions of the audit trail.

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer as _, value},
};
use utoipa::ToSchema;

/// Action of an event. The name is the one on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditAction)]
pub enum Action {
    /// A tenant was created.
    #[serde(rename = "tenant.create")]
    TenantCreate,
    /// A tenant's fields were changed.
    #[serde(rename = "tenant.update")]
    TenantUpdate,
    /// A tenant was suspended.
    #[serde(rename = "tenant.suspend")]
    TenantSuspend,
    /// A suspended tenant was resumed.
    #[serde(rename = "tenant.resume")]
    TenantResume,
    /// The removal of a tenant was scheduled.
    #[serde(rename = "tenant.delete")]
    TenantDelete,
    /// The scheduled removal of a tenant was revoked.
    #[serde(rename = "tenant.restore")]
    TenantRestore,
    /// A reconcile was requested.
    #[serde(rename = "tenant.reconcile")]
    TenantReconcile,
    /// A pending tenant became active.
    #[serde(rename = "tenant.activated")]
    TenantActivated,
    /// A tenant was removed from every upstream.
    #[serde(rename = "tenant.terminated")]
    TenantTerminated,
    /// A user signed in for the first time.
    #[serde(rename = "user.create")]
    UserCreate,
    /// A user's permissions were changed.
    #[serde(rename = "user.update")]
    UserUpdate,
    /// A user's permissions followed the groups of a token.
    #[serde(rename = "user.sync")]
    UserSync,
    /// A user was deleted.
    #[serde(rename = "user.delete")]
    UserDelete,
    /// A member was created, or a person known by a claim was adopted.
    #[serde(rename = "member.create")]
    MemberCreate,
    /// A member's name, role, aliases or quota was changed.
    #[serde(rename = "member.update")]
    MemberUpdate,
    /// A member was suspended.
    #[serde(rename = "member.suspend")]
    MemberSuspend,
    /// A suspended member was resumed.
    #[serde(rename = "member.resume")]
    MemberResume,
    /// A member's sessions were ended on request.
    #[serde(rename = "member.signOut")]
    MemberSignOut,
    /// A new one-time password was issued for a member.
    #[serde(rename = "member.resetPassword")]
    MemberResetPassword,
    /// A member's removal was requested; their rights ended.
    #[serde(rename = "member.delete")]
    MemberDelete,
    /// A member was restored before their removal.
    #[serde(rename = "member.restore")]
    MemberRestore,
    /// A pending member became active.
    #[serde(rename = "member.activated")]
    MemberActivated,
    /// A member was removed from every upstream.
    #[serde(rename = "member.removed")]
    MemberRemoved,
    /// An import of members was requested.
    #[serde(rename = "memberImport.create")]
    MemberImportCreate,
    /// The one-time passwords of an import were handed over.
    #[serde(rename = "memberImport.passwords")]
    MemberImportPasswords,
    /// A subscription was created.
    #[serde(rename = "subscription.create")]
    SubscriptionCreate,
    /// A subscription was changed.
    #[serde(rename = "subscription.update")]
    SubscriptionUpdate,
    /// A subscription was cancelled.
    #[serde(rename = "subscription.delete")]
    SubscriptionDelete,
    /// The invoices of a subscription were requested.
    #[serde(rename = "subscription.invoice")]
    SubscriptionInvoice,
    /// A sync of the customer at the payment provider was requested.
    #[serde(rename = "billing.sync")]
    BillingSync,
    /// The entry of a card was begun.
    #[serde(rename = "paymentMethod.enter")]
    PaymentMethodEnter,
    /// The card that invoices are charged to was changed.
    #[serde(rename = "paymentMethod.set")]
    PaymentMethodSet,
    /// A replay of an event of the payment provider was requested.
    #[serde(rename = "webhookEvent.replay")]
    WebhookEventReplay,
    /// An invoice was issued.
    #[serde(rename = "invoice.create")]
    InvoiceCreate,
    /// An invoice was voided.
    #[serde(rename = "invoice.void")]
    InvoiceVoid,
    /// An invoice was marked as paid.
    #[serde(rename = "invoice.markPaid")]
    InvoiceMarkPaid,
    /// A refresh of an invoice of the payment provider was requested.
    #[serde(rename = "invoice.refresh")]
    InvoiceRefresh,
    /// An invoice of the payment provider was issued, paid, reduced or closed there.
    #[serde(rename = "invoice.mirror")]
    InvoiceMirror,
    /// An amount was written to a partner's ledger.
    #[serde(rename = "ledger.adjust")]
    LedgerAdjust,
    /// A payout was created.
    #[serde(rename = "payout.create")]
    PayoutCreate,
    /// The creation of a payout was requested.
    #[serde(rename = "payout.request")]
    PayoutRequest,
    /// A payout was cancelled.
    #[serde(rename = "payout.cancel")]
    PayoutCancel,
    /// A payout was marked as paid.
    #[serde(rename = "payout.markPaid")]
    PayoutMarkPaid,
    /// A report was saved.
    #[serde(rename = "savedReport.create")]
    SavedReportCreate,
    /// A saved report was deleted.
    #[serde(rename = "savedReport.delete")]
    SavedReportDelete,
    /// The price of a plan was created.
    #[serde(rename = "price.create")]
    PriceCreate,
    /// The price of a plan was changed.
    #[serde(rename = "price.update")]
    PriceUpdate,
    /// The price of a plan was deleted.
    #[serde(rename = "price.delete")]
    PriceDelete,
    /// The allowance of a plan was changed.
    #[serde(rename = "allowance.update")]
    AllowanceUpdate,
    /// The reset of a person's second factors was requested.
    #[serde(rename = "user.resetMfa")]
    UserResetMfa,
    /// A partner was created.
    #[serde(rename = "partner.create")]
    PartnerCreate,
    /// A partner's fields were changed.
    #[serde(rename = "partner.update")]
    PartnerUpdate,
    /// A partner was terminated.
    #[serde(rename = "partner.delete")]
    PartnerDelete,
    /// A member was invited to a partner's team.
    #[serde(rename = "partnerMember.invite")]
    PartnerMemberInvite,
    /// An invitation to a partner's team was accepted.
    #[serde(rename = "partnerMember.accept")]
    PartnerMemberAccept,
    /// An invitation to a partner's team was declined.
    #[serde(rename = "partnerMember.decline")]
    PartnerMemberDecline,
    /// The recovery link of an invitation was created or shown.
    #[serde(rename = "partnerMember.link")]
    PartnerMemberLink,
    /// The role of a partner's team member was changed.
    #[serde(rename = "partnerMember.update")]
    PartnerMemberUpdate,
    /// A member was removed from a partner's team.
    #[serde(rename = "partnerMember.remove")]
    PartnerMemberRemove,
    /// A check of the MFA devices of a partner's team was requested.
    #[serde(rename = "partnerMember.recheck")]
    PartnerMemberRecheck,
    /// A tenant's billing information was changed.
    #[serde(rename = "tenant.billingInfo")]
    TenantBillingInfo,
    /// A tenant's branding was changed.
    #[serde(rename = "tenant.branding")]
    TenantBranding,
    /// A tenant's security policy was changed.
    #[serde(rename = "tenant.securityPolicy")]
    TenantSecurityPolicy,
    /// A feature flag was defined.
    #[serde(rename = "flag.create")]
    FlagCreate,
    /// A feature flag was changed.
    #[serde(rename = "flag.update")]
    FlagUpdate,
    /// A feature flag was deleted.
    #[serde(rename = "flag.delete")]
    FlagDelete,
    /// A domain was added to a tenant, as owned or as a claim.
    #[serde(rename = "domain.create")]
    DomainCreate,
    /// A domain's settings were changed.
    #[serde(rename = "domain.update")]
    DomainUpdate,
    /// A domain's removal was requested, or a claim was deleted.
    #[serde(rename = "domain.delete")]
    DomainDelete,
    /// A check of a domain's DNS was requested.
    #[serde(rename = "domain.recheck")]
    DomainRecheck,
    /// A domain's ownership was proved through its DNS token.
    #[serde(rename = "domain.proved")]
    DomainProved,
    /// A claim was lost to another tenant.
    #[serde(rename = "domain.lost")]
    DomainLost,
    /// A domain was removed from the mail server and released.
    #[serde(rename = "domain.removed")]
    DomainRemoved,
    /// An app was created.
    #[serde(rename = "app.create")]
    AppCreate,
    /// An app's settings were changed.
    #[serde(rename = "app.update")]
    AppUpdate,
    /// An app's removal was requested.
    #[serde(rename = "app.delete")]
    AppDelete,
    /// A new client secret was issued.
    #[serde(rename = "app.rotateSecret")]
    AppRotateSecret,
    /// A reconcile found an app changed at the identity provider, and put it back.
    #[serde(rename = "app.drift")]
    AppDrift,
    /// An app was removed from the identity provider.
    #[serde(rename = "app.removed")]
    AppRemoved,
    /// A job was requeued.
    #[serde(rename = "job.requeue")]
    JobRequeue,
    /// A job was cancelled.
    #[serde(rename = "job.cancel")]
    JobCancel,
    /// A schedule was run manually.
    #[serde(rename = "schedule.run")]
    ScheduleRun,
    /// An upstream was paused.
    #[serde(rename = "upstream.pause")]
    UpstreamPause,
    /// An upstream was resumed, or a half-open probe was forced.
    #[serde(rename = "upstream.resume")]
    UpstreamResume,
    /// A queue was paused.
    #[serde(rename = "queue.pause")]
    QueuePause,
    /// A queue was resumed.
    #[serde(rename = "queue.resume")]
    QueueResume,
    /// An available job was discarded.
    #[serde(rename = "job.discard")]
    JobDiscard,
    /// A discarded job was dismissed.
    #[serde(rename = "job.dismiss")]
    JobDismiss,
    /// A bulk job operation was created.
    #[serde(rename = "jobOperation.create")]
    JobOperationCreate,
    /// An operator signed in to the console.
    #[serde(rename = "console.signIn")]
    ConsoleSignIn,
    /// An operator signed out of the console.
    #[serde(rename = "console.signOut")]
    ConsoleSignOut,
    /// A value written by a newer build; this build never records it.
    #[serde(rename = "unknown", other)]
    Unknown,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl FromStr for Action {
    type Err = value::Error;

    fn from_str(text: &str) -> Result<Self, value::Error> {
        match Self::deserialize(text.into_deserializer())? {
            Self::Unknown => Err(serde::de::Error::custom("unknown action")),
            action => Ok(action),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_round_trip_and_unknown_names_decode_as_unknown() {
        let newer: Action = bson::deserialize_from_bson("tenant.clone".into()).unwrap();

        assert_eq!(Action::DomainLost.to_string(), "domain.lost");
        assert_eq!("domain.lost".parse(), Ok(Action::DomainLost));
        assert_eq!(newer, Action::Unknown);
        assert!("tenant.clone".parse::<Action>().is_err());
        assert!("unknown".parse::<Action>().is_err());
    }
}
