//! One caller of every kind, as MongoDB knows them.

use bson::{Bson, Document, doc};
use dezky_shared::{id::PartnerId, platform::clock};
use dezky_sim::{
    callers::Caller as Kind,
    issuer::{OPERATOR, PORTAL, TokenSpec},
};
use mongodb::Database;
use reqwest::{Method, StatusCode};

use super::id;
use crate::stack::Stack;

/// Who calls.
pub(super) struct Caller {
    pub(super) name: &'static str,
    /// User id; empty for a caller without one.
    pub(super) user: String,
    pub(super) token: Option<String>,
}

impl Caller {
    /// How much is tried: whatever schemathesis can think of where the caller may do much. Elsewhere most requests
    /// are refused.
    pub(super) fn extent(&self) -> &'static [&'static str] {
        match self.name {
            "operator" => &["--max-examples", "10", "--continue-on-failure"],
            "partner-owner" => &[
                "--max-examples",
                "10",
                "--continue-on-failure",
                "--include-path-regex",
                "^/partner(/|$)",
            ],
            // Every request is answered 401.
            "expired" | "anonymous" => &["--max-examples", "1", "--phases", "fuzzing"],
            _ => &["--max-examples", "2", "--phases", "fuzzing"],
        }
    }
}

/// All callers. `demo` and `other` are tenants of different partners.
pub(super) async fn all(stack: &Stack) -> Vec<Caller> {
    for slug in ["demo", "other"] {
        stack.create(slug).await;
        stack.until_status(slug, "active").await;
    }
    let database = stack.database().await;
    let nordic = partner(&database, "nordic", "active").await;
    let elsewhere = partner(&database, "elsewhere", "active").await;
    let former = partner(&database, "former", "terminated").await;
    let demo = look_after(&database, "demo", nordic).await;
    let other = look_after(&database, "other", elsewhere).await;

    let nothing = Document::new();
    let flag = doc! { "platformAdmin": true };
    let kinds = [
        ("stranger", PORTAL, nothing.clone()),
        ("member", PORTAL, member(&demo, "member")),
        ("admin", PORTAL, member(&demo, "admin")),
        ("owner", PORTAL, member(&demo, "owner")),
        ("other-owner", PORTAL, member(&other, "owner")),
        ("partner-owner", PORTAL, staff(nordic, "owner")),
        ("partner-manager", PORTAL, staff(nordic, "manager")),
        ("partner-support", PORTAL, staff(nordic, "support")),
        ("partner-read-only", PORTAL, staff(nordic, "read-only")),
        ("other-partner", PORTAL, staff(elsewhere, "owner")),
        ("former-partner", PORTAL, staff(former, "owner")),
        ("operator-without-flag", OPERATOR, nothing),
        ("flag-without-audience", PORTAL, flag.clone()),
        ("operator", OPERATOR, flag),
    ];
    let mut callers = Vec::new();
    for (name, application, rights) in kinds {
        callers.push(sign_in(stack, &database, name, application, rights).await);
    }
    let expired = TokenSpec {
        expires_in: -60,
        ..Kind::Operator.token()
    };
    callers.push(Caller {
        name: "expired",
        user: String::new(),
        token: Some(stack.issuer.token(&expired).unwrap()),
    });
    callers.push(Caller {
        name: "anonymous",
        user: String::new(),
        token: None,
    });
    // What takes longest begins first.
    callers.sort_by_key(|caller| caller.name != "operator");
    callers
}

async fn partner(database: &Database, slug: &str, status: &str) -> PartnerId {
    let id = PartnerId::new();
    let now = clock::now();
    let partner = doc! {
        "_id": id, "slug": slug, "name": slug, "status": status, "marginBasisPoints": 1_250,
        "revision": 1_i64, "createdAt": now, "updatedAt": now,
    };
    let partners = database.collection("partners");
    partners.insert_one(partner).await.unwrap();
    id
}

/// Has the partner look after the tenant, whose id this is.
async fn look_after(database: &Database, slug: &str, partner: PartnerId) -> Bson {
    let tenants = database.collection::<Document>("tenants");
    let of = doc! { "$set": { "partnerId": partner }, "$inc": { "revision": 1_i64 } };
    let tenant = tenants.find_one_and_update(doc! { "slug": slug }, of).await;
    tenant.unwrap().unwrap().get("_id").unwrap().clone()
}

fn member(tenant: &Bson, role: &str) -> Document {
    let membership = doc! {
        "tenantId": tenant, "role": role, "source": "local", "changedAt": clock::now(),
    };
    doc! { "memberships": [membership] }
}

fn staff(partner: PartnerId, role: &str) -> Document {
    doc! { "partnerId": partner, "partnerRole": role }
}

async fn sign_in(
    stack: &Stack,
    database: &Database,
    name: &'static str,
    application: &str,
    rights: Document,
) -> Caller {
    let spec = TokenSpec {
        application: application.to_owned(),
        email: Some(format!("{name}@people.test")),
        name: Some(name.to_owned()),
        ..TokenSpec::default()
    };
    let token = stack.issuer.token(&spec).unwrap();
    let (status, user) = stack.ask_with(&token, Method::GET, "/users/me", None).await;
    assert_eq!(status, StatusCode::OK, "{user}");
    if !rights.is_empty() {
        let users = database.collection::<Document>("users");
        let them = doc! { "authentikSubjectId": spec.subject };
        let granted = users.update_one(them, doc! { "$set": rights }).await;
        assert_eq!(granted.unwrap().matched_count, 1, "{name}");
    }
    Caller {
        name,
        user: id(&user),
        token: Some(token),
    }
}
