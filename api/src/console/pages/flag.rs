//! One feature flag: its rules, and the forms that change them.

use axum::{extract::Path, response::Response};
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        form::{Field, Form},
        page::Frame,
        page_request::PageRequest,
        query::segment,
        table::{Cell, Table},
        text::{State as Word, Time},
    },
    ListPage, PLANS,
};

/// A feature flag.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Flag {
    key: String,
    description: String,
    default: bool,
    rules: Vec<Rule>,
    kill_switch: bool,
    revision: i64,
    updated_at: Time,
}

/// A rule of a flag.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    tenants: Vec<String>,
    #[serde(default)]
    partners: Vec<String>,
    #[serde(default)]
    plans: Vec<String>,
    percentage: Option<u8>,
    from: Option<Time>,
    until: Option<Time>,
    value: bool,
}

/// A value of a flag, as a state.
pub(super) fn value(is_on: bool) -> Word {
    Word::new(if is_on { "on" } else { "off" })
}

impl Rule {
    /// The rule in a sentence.
    fn text(&self) -> String {
        let lists = [
            ("tenants", &self.tenants),
            ("tenants of partners", &self.partners),
            ("plans", &self.plans),
        ];
        let lists = lists.iter().filter(|(_, names)| !names.is_empty());
        let mut conditions: Vec<String> = lists
            .map(|(label, names)| format!("{label} {}", names.join(", ")))
            .collect();
        conditions.extend(self.percentage.map(|share| format!("{share} % of tenants")));
        conditions.extend(self.from.as_ref().map(|at| format!("from {at}")));
        conditions.extend(self.until.as_ref().map(|at| format!("until {at}")));
        format!("{}: {}", value(self.value), conditions.join("; "))
    }
}

impl Flag {
    /// The row of the flag in a list.
    pub(super) fn row(&self) -> [Cell; 5] {
        [
            Cell::link(format!("/console/flags/{}", self.key), &self.key),
            Cell::text(&self.description),
            self.fallback(),
            Cell::lines(self.rules.iter().map(Rule::text).collect()),
            Cell::time(&self.updated_at),
        ]
    }

    /// The value without a rule that matches.
    fn fallback(&self) -> Cell {
        if self.kill_switch {
            Cell::state(&value(false)).and(Cell::text("for every tenant (kill switch)"))
        } else {
            Cell::state(&value(self.default))
        }
    }

    fn definition(&self) -> Table {
        let rows = [
            ("Purpose", Cell::text(&self.description)),
            ("Without a rule", self.fallback()),
            ("Changed", Cell::time(&self.updated_at)),
        ];
        let rows = rows.map(|(name, cell)| [Cell::text(name), cell]);
        Table::new("Definition", ["Field", "Value"], rows, "None.")
    }

    /// The rules, each with the forms that move and remove it.
    fn rule_table(&self, frame: &Frame) -> Table {
        let row = |(index, rule): (usize, &Rule)| {
            let number = Cell::text((index + 1).to_string());
            [number, Cell::text(rule.text())]
        };
        let table = Table::new(
            "Rules; the first that matches decides",
            ["Number", "Rule"],
            self.rules.iter().enumerate().map(row),
            "The flag has no rule.",
        );
        if !frame.may_write() {
            return table;
        }
        let form = |action: &str, label: String, index: usize| {
            let form = frame.form("flags", &self.key, action, label)?;
            Some(form.with_fields(vec![
                Field::hidden("rule", index.to_string()),
                self.revision_field(),
            ]))
        };
        let forms = |index: usize| -> Vec<Form> {
            let number = index + 1;
            let up = form("move-rule", format!("Move rule {number} up"), index);
            let remove = form("remove-rule", format!("Remove rule {number}"), index);
            let up = up.filter(|_| index > 0);
            up.into_iter().chain(remove).collect()
        };
        table.with_forms((0..self.rules.len()).map(forms))
    }

    /// The forms of the flag as a whole.
    fn forms(&self, frame: &Frame) -> Vec<Form> {
        let form = |action, label: &str| frame.form("flags", &self.key, action, label);
        let switch = if self.kill_switch {
            form("revive", "Lift the kill switch")
        } else {
            form("kill", "Turn off for everyone")
        };
        let other = if self.default { "off" } else { "on" };
        let default = form("default", &format!("Turn {other} without a rule"));
        let default = default.map(|form| form.with_fields(vec![Field::hidden("default", other)]));
        let rule = form("add-rule", "Add the rule");
        let rule = rule.map(|form| form.with_fields(self.rule_fields()));
        let forms = [rule, default, switch, form("delete", "Delete the flag")];
        forms.into_iter().flatten().collect()
    }

    /// The fields of a new rule. A condition that is left empty holds for every tenant.
    fn rule_fields(&self) -> Vec<Field> {
        vec![
            Field::one_of("Value", "value", &["on", "off"]),
            Field::text("Tenants, by comma", "tenants", None).up_to(4_000),
            Field::text("Partners, by comma", "partners", None).up_to(4_000),
            Field::choice("Plan", "plans", &PLANS, None),
            Field::text("Percent of tenants", "percentage", None),
            Field::text("From, such as 2026-12-01T00:00:00Z", "from", None),
            Field::text("Until", "until", None),
            Field::one_of("Position", "position", &["last", "first"]),
            self.revision_field(),
        ]
    }

    /// The revision that the page shows.
    fn revision_field(&self) -> Field {
        Field::hidden("revision", self.revision.to_string())
    }
}

pub(in crate::console) async fn show(
    request: PageRequest,
    Path(key): Path<String>,
) -> Result<Response, Failure> {
    let path = format!("/flags/{}", segment(&key)?);
    let flag: Flag = request.get(&path).await?;
    let title = format!("Flag {}", flag.key);
    let frame = request.frame("/console/flags", title)?;
    let (rules, forms) = (flag.rule_table(&frame), flag.forms(&frame));
    let page = ListPage::new(frame, flag.definition())
        .with_link("/console/flags", "All flags")
        .with_table(rules)
        .with_forms(forms);
    Ok(page.respond())
}
