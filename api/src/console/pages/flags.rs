//! List of feature flags, and their values for a tenant.

use std::collections::BTreeMap;

use axum::response::Response;
use serde_json::json;

use super::{
    super::{
        Console,
        failure::{Failure, unexpected},
        form::Field,
        page_request::PageRequest,
        session::{Session, random},
        table::{Cell, Table},
    },
    List, ListPage,
    flag::{Flag, value},
};

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let flags = List::<Flag>::read(&request, "/flags", &[]).await?;
    let next = flags.next_page(&request, "/console/flags", &[]);
    let frame = request.frame("/console/flags", "Flags")?;
    let create = frame.form("flags", "new", "create", "Create a flag");
    let create = create.map(|form| {
        form.with_fields(vec![
            Field::required("Key, such as beta_search", "key"),
            Field::required("Purpose", "description").up_to(500),
        ])
    });
    let table = Table::new(
        "Flags; the first rule that matches decides",
        ["Key", "Purpose", "Without a rule", "Rules", "Changed"],
        flags.items.iter().map(Flag::row),
        "No flag is defined.",
    );
    let tenant = request.text("tenant");
    let mut page = ListPage::new(frame, table.with_next(next, "More flags"))
        .with_filters(vec![Field::text("Values for the tenant", "tenant", tenant)])
        .with_forms(create.into_iter().collect());
    if let Some(slug) = tenant {
        page = match evaluate(&request.console, &request.session, slug).await {
            Ok(values) => page.with_table(values),
            Err(failure) => page.with_sentence(failure.summary()),
        };
    }
    Ok(page.respond())
}

/// The values of the flags for a tenant.
async fn evaluate(console: &Console, session: &Session, slug: &str) -> Result<Table, Failure> {
    let body = json!({ "tenantSlug": slug });
    let path = "/flags/evaluate";
    let values = console
        .routes
        .post(session, path, Some(&body), &random()?)
        .await?;
    let values: BTreeMap<String, bool> = serde_json::from_value(values)
        .map_err(|error| unexpected(error.into(), &session.request))?;
    let row = |(key, is_on): (String, bool)| [Cell::code(key), Cell::state(&value(is_on))];
    Ok(Table::new(
        format!("Values for the tenant {slug}"),
        ["Key", "Value"],
        values.into_iter().map(row),
        "No flag is defined.",
    ))
}
