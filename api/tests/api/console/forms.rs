//! Every form of every page: it is accepted from a page of its session only.

use std::collections::{BTreeMap, VecDeque};

use bson::doc;
use dezky_sim::callers::Caller;
use http::StatusCode;
use serde_json::json;

use super::browser::{Browser, ORIGIN, Page, app};
use crate::app::TestApp;

/// Pages that the links lead to at most, so that a loop of links ends.
const MAX_PAGES: usize = 400;

/// Ends of the addresses of forms that are found at least.
const FORMS: [&str; 28] = [
    "/sign-out",
    "/jobs/selected",
    "/jobs/matching",
    "/requeue",
    "/dismiss",
    "/queues/dns/resume",
    "/queues/provisioning/pause",
    "/upstreams/stalwart/resume",
    "/upstreams/ocis/pause",
    "/nightly_reconcile/run",
    "/demo/reconcile",
    "/demo/suspend",
    "/acme/resume",
    "/acme/invoice",
    "/void",
    "/mark-paid",
    "/cancel",
    "/partners/new/create",
    "/update",
    "/terminate",
    "/contact",
    "/former/restore",
    "/payout",
    "/adjust",
    "/flags/new/create",
    "/beta/add-rule",
    "/beta/remove-rule",
    "/beta/kill",
];

/// A form that changes something.
#[derive(Debug)]
struct Form {
    path: String,
    /// Hidden fields.
    fields: Vec<(String, String)>,
    is_danger: bool,
}

impl Form {
    /// The fields without the token, and those that a person would add to confirm it.
    fn other_fields(&self) -> Vec<(&str, &str)> {
        let fields = self.fields.iter();
        let fields = fields.map(|(name, value)| (name.as_str(), value.as_str()));
        let fields = fields.filter(|(name, _)| *name != "form_token");
        fields.chain([("confirmed", "yes")]).collect()
    }

    fn token(&self) -> &str {
        let token = self.fields.iter().find(|(name, _)| name == "form_token");
        &token.unwrap_or_else(|| panic!("{self:?} has a token")).1
    }
}

/// The value of the first attribute with this name.
fn attribute(html: &str, name: &str) -> String {
    let (_, rest) = html.split_once(&format!("{name}=\"")).unwrap();
    let value = rest.split('"').next().unwrap();
    value.replace("&#38;", "&")
}

/// The forms of a page. It has no other form than these and those of filters.
fn forms(page: &Page) -> Vec<Form> {
    const START: &str = "<form method=\"post\" ";
    let filters = page.text.matches("<form method=\"get\"").count();
    let all = page.text.matches("<form").count();
    assert_eq!(
        page.text.matches(START).count(),
        all - filters,
        "{}",
        page.text
    );
    let form = |rest: &str| {
        let html = rest.split("</form>").next().unwrap();
        let inputs = html.split("<input type=\"hidden\" ").skip(1);
        Form {
            path: attribute(html, "action"),
            fields: inputs
                .map(|input| (attribute(input, "name"), attribute(input, "value")))
                .collect(),
            is_danger: html.contains("class=\"danger\""),
        }
    };
    page.text.split(START).skip(1).map(form).collect()
}

/// The pages that a page links to.
fn links(page: &Page) -> Vec<String> {
    let links = page.text.split("<a ").skip(1);
    let links = links.map(|link| attribute(link, "href"));
    links
        .filter(|link| link.starts_with("/console") && !link.contains(".csv"))
        .collect()
}

/// All pages that links lead to, by their addresses.
pub(super) async fn all_pages(browser: &mut Browser<'_>) -> BTreeMap<String, Page> {
    let mut pages: BTreeMap<String, Page> = BTreeMap::new();
    let mut queue = VecDeque::from(["/console".to_owned()]);
    while let Some(path) = queue.pop_front() {
        if pages.contains_key(&path) {
            continue;
        }
        let page = browser.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {page:?}");
        queue.extend(links(&page));
        pages.insert(path, page);
        assert!(pages.len() < MAX_PAGES, "{:?}", pages.keys());
    }
    pages
}

/// All forms of all pages, and of the confirmations, by their addresses.
async fn all_forms(browser: &mut Browser<'_>) -> BTreeMap<String, Vec<Form>> {
    let pages = all_pages(browser).await;
    let mut found: BTreeMap<String, Vec<Form>> = BTreeMap::new();
    for page in pages.values() {
        for form in forms(page) {
            if found.contains_key(&form.path) {
                continue;
            }
            let mut of_path = Vec::new();
            if form.is_danger || form.path == "/console/jobs/matching" {
                let fields = [("action", "requeue"), ("state", "discarded")];
                let asked = browser.submit(page, &form.path, &fields).await;
                assert_eq!(asked.status, StatusCode::OK, "{form:?}: {asked:?}");
                let confirmations = forms(&asked).into_iter();
                of_path.extend(confirmations.filter(|it| it.path == form.path));
                assert!(!of_path.is_empty(), "{form:?}: {asked:?}");
            }
            of_path.push(form);
            found.insert(of_path[0].path.clone(), of_path);
        }
    }
    found
}

/// An app whose pages have forms of all kinds.
pub(super) async fn app_with_forms() -> TestApp {
    let app = app().await;
    let partner = app.with_partner("owner").await;
    app.add_payout(partner, 700).await;
    app.insert_partner("former", "terminated").await;
    app.create("acme").await;
    app.set_tenant("acme", doc! { "status": "suspended" }).await;
    let invoice = json!({
        "lines": [{ "description": "Setup", "amountMinor": 1 }], "reason": "New", "currency": "DKK",
    });
    let rules = json!([{ "tenants": ["demo"], "value": true }]);
    let flag = json!({ "key": "beta", "description": "Beta.", "rules": rules });
    for (path, body) in [
        ("/tenants/demo/invoices", invoice),
        ("/flags", flag),
        ("/queues/dns/pause", json!({})),
        ("/upstreams/stalwart/pause", json!({})),
    ] {
        let reply = app.operator().post(path, body).await;
        assert!(reply.status.is_success(), "{path}: {reply:?}");
    }
    let job = app.first_job().await;
    app.set_job(job, doc! { "state": "discarded" }).await;
    app
}

#[tokio::test]
async fn no_form_of_any_page_is_accepted_without_its_token_or_from_another_site() {
    let app = app_with_forms().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let mut other = Browser::signed_in(&app, Caller::Operator).await;
    let found = all_forms(&mut browser).await;
    let page = other.get("/console").await;
    let of_other_session = page.hidden("form_token");
    let before = (app.actions().await, app.jobs().await);

    let own: &[(&str, &str)] = &[("sec-fetch-site", "same-origin"), ("origin", ORIGIN)];
    let cross_site: [&[(&str, &str)]; 4] = [
        &[("sec-fetch-site", "cross-site"), ("origin", ORIGIN)],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.test")],
        &[],
    ];
    for form in found.values().flatten() {
        let fields = form.other_fields();
        let with = |token| [fields.clone(), vec![("form_token", token)]].concat();
        let attempts = [
            (fields.clone(), own),
            (with(""), own),
            (with(of_other_session), own),
        ];
        let cross_site = cross_site.map(|headers| (with(form.token()), headers));
        for (fields, headers) in attempts.into_iter().chain(cross_site) {
            let refused = browser.post(&form.path, &fields, headers).await;
            assert_eq!(
                refused.status,
                StatusCode::FORBIDDEN,
                "{} {fields:?} {headers:?}: {refused:?}",
                form.path
            );
        }
    }

    assert_eq!(
        (app.actions().await, app.jobs().await),
        before,
        "nothing was done"
    );
    for end in FORMS {
        let is_found = found.keys().any(|path| path.ends_with(end));
        assert!(is_found, "{end} is not among {:?}", found.keys());
    }
}
