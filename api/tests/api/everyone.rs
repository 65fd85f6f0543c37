//! One person of every kind that the service tells apart.

use bson::doc;
use dezky_shared::{
    id::{PartnerId, TenantId},
    platform::clock,
};
use dezky_sim::issuer::{OPERATOR, PORTAL, TokenSpec};
use http::StatusCode;

use crate::app::TestApp;

/// A kind of caller. `demo` is the tenant that is asked about; `other` is another, and another partner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Nobody,
    /// The operator, with a token that has ended.
    Expired,
    Stranger,
    Member,
    Admin,
    Owner,
    OtherMember,
    OtherAdmin,
    OtherOwner,
    PartnerOwner,
    PartnerManager,
    PartnerSupport,
    PartnerReadOnly,
    OtherPartner,
    /// Staff of a partner that looked after `demo` until it was terminated.
    FormerPartner,
    /// In the operators' application, without the flag in MongoDB.
    OperatorWithoutFlag,
    /// With the flag in MongoDB, in the portal's application.
    FlagWithoutAudience,
    Operator,
}

impl Who {
    pub(crate) const ALL: [Self; 18] = [
        Self::Nobody,
        Self::Expired,
        Self::Stranger,
        Self::Member,
        Self::Admin,
        Self::Owner,
        Self::OtherMember,
        Self::OtherAdmin,
        Self::OtherOwner,
        Self::PartnerOwner,
        Self::PartnerManager,
        Self::PartnerSupport,
        Self::PartnerReadOnly,
        Self::OtherPartner,
        Self::FormerPartner,
        Self::OperatorWithoutFlag,
        Self::FlagWithoutAudience,
        Self::Operator,
    ];

    /// What they sign in with; nothing for nobody.
    pub(crate) fn token(self) -> Option<TokenSpec> {
        if self == Self::Nobody {
            return None;
        }
        let application = match self {
            Self::Operator | Self::Expired | Self::OperatorWithoutFlag => OPERATOR,
            _ => PORTAL,
        };
        // Whose token has ended is the operator otherwise.
        let person = if self == Self::Expired {
            Self::Operator
        } else {
            self
        };
        let long_ago = clock::now().timestamp_millis() / 1_000 - 7_200;
        Some(TokenSpec {
            issued_at: (self == Self::Expired).then_some(long_ago),
            expires_in: 3_600,
            application: application.to_owned(),
            subject: person.subject(),
            email: Some(format!("{person:?}@people.test").to_lowercase()),
            name: Some(format!("{person:?}")),
            ..TokenSpec::default()
        })
    }

    fn subject(self) -> String {
        format!("00000000-0000-4000-9000-{:012}", self as u8)
    }
}

impl TestApp {
    /// The app with the tenants `demo` and `other`, their partners `nordic` and `elsewhere`, the terminated partner
    /// `former`, and everybody who is anybody there.
    pub(crate) async fn with_everyone() -> Self {
        let app = Self::with_demo().await;
        let other = app.create("other").await;
        assert_eq!(other.status, StatusCode::ACCEPTED, "{other:?}");
        let (demo, other) = (app.tenant("demo").await.id, app.tenant("other").await.id);
        let partner = async |slug: &str, status: &str| app.insert_partner(slug, status).await;
        let nordic = partner("nordic", "active").await;
        let elsewhere = partner("elsewhere", "active").await;
        let former = partner("former", "terminated").await;
        app.set_tenant("demo", doc! { "partnerId": nordic }).await;
        app.set_tenant("other", doc! { "partnerId": elsewhere })
            .await;

        for who in Who::ALL {
            let Some(token) = who.token().filter(|_| who != Who::Expired) else {
                continue;
            };
            let signed_in = app.get("/users/me").token(&app.token(&token)).send().await;
            assert_eq!(signed_in.status, StatusCode::OK, "{who:?} {signed_in:?}");
            let rights = match who {
                Who::Member => role(demo, "member"),
                Who::Admin => role(demo, "admin"),
                Who::Owner => role(demo, "owner"),
                Who::OtherMember => role(other, "member"),
                Who::OtherAdmin => role(other, "admin"),
                Who::OtherOwner => role(other, "owner"),
                Who::PartnerOwner => staff(nordic, "owner"),
                Who::PartnerManager => staff(nordic, "manager"),
                Who::PartnerSupport => staff(nordic, "support"),
                Who::PartnerReadOnly => staff(nordic, "read-only"),
                Who::OtherPartner => staff(elsewhere, "owner"),
                Who::FormerPartner => staff(former, "owner"),
                Who::FlagWithoutAudience | Who::Operator => doc! { "platformAdmin": true },
                _ => continue,
            };
            let users = app.collection("users");
            let them = doc! { "authentikSubjectId": who.subject() };
            let set = doc! { "$set": rights };
            users.update_one(them, set).await.unwrap();
        }
        app
    }

    /// A partner, put into the database as it is.
    pub(crate) async fn insert_partner(&self, slug: &str, status: &str) -> PartnerId {
        let id = PartnerId::new();
        let now = clock::now();
        let partner = doc! {
            "_id": id,
            "slug": slug,
            "name": slug,
            "status": status,
            "marginBasisPoints": 1_250,
            "revision": 1_i64,
            "createdAt": now,
            "updatedAt": now,
        };
        self.collection("partners")
            .insert_one(partner)
            .await
            .unwrap();
        id
    }
}

fn role(tenant: TenantId, role: &str) -> bson::Document {
    let membership = doc! {
        "tenantId": tenant, "role": role, "source": "local", "changedAt": clock::now(),
    };
    doc! { "memberships": [membership] }
}

fn staff(partner: PartnerId, role: &str) -> bson::Document {
    doc! { "partnerId": partner, "partnerRole": role }
}
