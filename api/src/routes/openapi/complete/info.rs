//! Licence, servers and tags of the document.

use serde_json::{Value, json};

/// Tags, in the order of the documentation.
const TAGS: [(&str, &str); 18] = [
    (
        "tenants",
        "Workspaces of companies: settings, lifecycle, health and storage.",
    ),
    (
        "domains",
        "Mail domains of tenants, their proof of ownership and their DNS records.",
    ),
    (
        "tenant users",
        "People of tenants: members with accounts, their passwords and second factors.",
    ),
    (
        "apps",
        "Sign-on apps of tenants: OIDC clients for their members.",
    ),
    ("users", "People who sign in to this API."),
    (
        "partner",
        "The caller's own partner, its settings and its tenants.",
    ),
    ("partners", "Partners, their teams and invitations."),
    (
        "subscriptions",
        "Subscriptions of tenants, and their monthly snapshots.",
    ),
    (
        "billing",
        "Invoices, ledgers and payouts of partners, and the invoice run.",
    ),
    (
        "reports",
        "Revenue, its movements, cohorts and customers, by month and currency.",
    ),
    ("prices", "Plans, their prices and their allowances."),
    ("flags", "Feature flags and their evaluation."),
    ("jobs", "Jobs, which carry out changes."),
    (
        "job operations",
        "Operations on many jobs at once. For operators.",
    ),
    ("schedules", "Recurring jobs. For operators."),
    (
        "operations",
        "Queues, upstreams, workers and infrastructure. For operators.",
    ),
    ("audit", "The audit trail: events, export and verification."),
    ("health", "Health checks of this process."),
];

/// Adds them.
pub(super) fn complete(document: &mut Value) {
    let info = &mut document["info"];
    info["license"] = json!({ "name": "Proprietary", "identifier": "LicenseRef-Proprietary" });
    let server = json!({ "url": "/", "description": "The service that serves this document." });
    document["servers"] = json!([server]);
    let tags = TAGS.map(|(name, description)| json!({ "name": name, "description": description }));
    document["tags"] = Vec::from(tags).into();
}
