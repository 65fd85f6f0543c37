//! One persona for every kind of caller that the service distinguishes.

use bson::doc;
use dezky_shared::{
    id::{PartnerId, TenantId},
    platform::clock,
};
use dezky_sim::issuer::{OPERATOR, PORTAL, TokenSpec};
use http::StatusCode;

use crate::app::TestApp;

/// Kind of caller, in relation to the tenant `demo`. `other` is a tenant of another partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persona {
    Anonymous,
    /// The operator with an expired token.
    ExpiredToken,
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
    /// Staff of a terminated partner.
    FormerPartner,
    /// Operator audience, without the admin flag in MongoDB.
    OperatorWithoutFlag,
    /// Admin flag in MongoDB, with the portal audience.
    FlagWithoutAudience,
    Operator,
    /// Operator who reads and requeues jobs.
    PlatformSupport,
    /// Operator who reads.
    PlatformViewer,
}

impl Persona {
    pub(crate) const ALL: [Self; 20] = [
        Self::Anonymous,
        Self::ExpiredToken,
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
        Self::PlatformSupport,
        Self::PlatformViewer,
    ];

    /// Token to sign in with; `None` for the anonymous caller.
    pub(crate) fn token(self) -> Option<TokenSpec> {
        if self == Self::Anonymous {
            return None;
        }
        let application = match self {
            Self::Operator
            | Self::PlatformSupport
            | Self::PlatformViewer
            | Self::ExpiredToken
            | Self::OperatorWithoutFlag => OPERATOR,
            _ => PORTAL,
        };
        // An expired token belongs to the operator.
        let person = if self == Self::ExpiredToken {
            Self::Operator
        } else {
            self
        };
        let long_ago = clock::now().timestamp_millis() / 1_000 - 7_200;
        Some(TokenSpec {
            issued_at: (self == Self::ExpiredToken).then_some(long_ago),
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
    /// `former`, and every persona signed in with its roles.
    pub(crate) async fn with_personas() -> Self {
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

        for persona in Persona::ALL {
            if matches!(persona, Persona::Anonymous | Persona::ExpiredToken) {
                continue;
            }
            app.sign_in(persona).await;
            let rights = match persona {
                Persona::Member => role(demo, "member"),
                Persona::Admin => role(demo, "admin"),
                Persona::Owner => role(demo, "owner"),
                Persona::OtherMember => role(other, "member"),
                Persona::OtherAdmin => role(other, "admin"),
                Persona::OtherOwner => role(other, "owner"),
                Persona::PartnerOwner => staff(nordic, "owner"),
                Persona::PartnerManager => staff(nordic, "manager"),
                Persona::PartnerSupport => staff(nordic, "support"),
                Persona::PartnerReadOnly => staff(nordic, "read-only"),
                Persona::OtherPartner => staff(elsewhere, "owner"),
                Persona::FormerPartner => staff(former, "owner"),
                Persona::FlagWithoutAudience | Persona::Operator => doc! { "platformAdmin": true },
                Persona::PlatformSupport => doc! { "platformRole": "support" },
                Persona::PlatformViewer => doc! { "platformRole": "viewer" },
                _ => continue,
            };
            let user = doc! { "authentikSubjectId": persona.subject() };
            app.set("users", user, rights).await;
        }
        app
    }

    /// Inserts a partner directly into the database.
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
