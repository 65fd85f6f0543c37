//! Operators' console over a large database: the time of each page, and the cost of open pages at rest.

mod browser;
mod stored;

use std::time::{Duration, Instant};

use dezky_sim::bench_output::{percentile, progress, report, within};
use futures::future::join_all;
use tokio::time::{interval, timeout};

use self::browser::{Browser, ORIGIN};
use crate::{
    memory,
    world::{Variables, World},
};

/// Requests for each page.
const READS: usize = 40;
/// Limit of a page (p95).
const MAX_MILLIS: f64 = 200.0;
/// Open consoles.
const CONSOLES: u32 = 50;
/// Period in which the script of an open page reads it again.
const PERIOD: Duration = Duration::from_secs(10);
/// Time of the measurement at rest.
const OBSERVED: Duration = Duration::from_secs(30);
/// Limit of the api's share of a core at rest, in percent.
const MAX_SHARE: f64 = 5.0;

/// The pages, besides those of single resources.
const PAGES: [&str; 20] = [
    "",
    "/jobs",
    "/jobs?state=discarded",
    "/jobs?state=discarded&errorCode=upstream_rejected",
    "/operations",
    "/queues",
    "/upstreams",
    "/schedules",
    "/workers",
    "/tenants",
    "/tenants?q=t-99",
    "/tenants?health=critical",
    "/partners",
    "/billing",
    "/invoices",
    "/payouts",
    "/reports",
    "/reports/mrr",
    "/flags",
    "/audit",
];

/// Returns whether the limits hold.
pub(crate) async fn measure() -> bool {
    let variables = vec![("CONSOLE_URL", ORIGIN.to_owned())];
    let world = World::start_with(variables, Variables::new()).await;
    let job = stored::fill(&world).await;
    let browser = Browser::signed_in(&world).await;
    let mut pages: Vec<String> = PAGES.map(str::to_owned).into();
    pages.extend([format!("/jobs/{job}"), "/tenants/t-1".to_owned()]);
    let is_fast = time_of_pages(&browser, &pages).await;
    is_cheap_at_rest(&world, &pages).await && is_fast
}

/// Measures the pages one after the other.
async fn time_of_pages(browser: &Browser<'_>, pages: &[String]) -> bool {
    let mut slowest = (0.0, String::new());
    for page in pages {
        let mut spans = Vec::with_capacity(READS);
        for _ in 0..READS {
            let began = Instant::now();
            browser.open(page, false).await;
            spans.push(began.elapsed());
        }
        let millis = percentile(&mut spans, 0.95);
        progress(format!("/console{page}: {millis:.1} ms"));
        if page.is_empty() {
            report("console, overview, p95", millis, "ms");
        }
        if millis > slowest.0 {
            slowest = (millis, page.clone());
        }
    }
    let (millis, page) = slowest;
    let name = format!("console, slowest page (/console{page}), p95");
    within(name, millis, "ms", MAX_MILLIS)
}

/// Measures open consoles, half of which show the overview and the others all pages.
async fn is_cheap_at_rest(world: &World, pages: &[String]) -> bool {
    let mut browsers = Vec::new();
    for _ in 0..CONSOLES {
        browsers.push(Browser::signed_in(world).await);
    }
    let others = pages.iter().cycle().flat_map(|page| ["", page.as_str()]);
    let (cpu, of_mongodb, began) = (
        memory::cpu_seconds(&world.api),
        memory::mongodb_cpu_seconds(world).await,
        Instant::now(),
    );
    let open = (0..).zip(&browsers).zip(others);
    let open = open.map(|((number, browser), page)| {
        let delay = PERIOD * number / CONSOLES;
        timeout(OBSERVED, refresh(browser, page, delay))
    });
    join_all(open).await;
    let elapsed = began.elapsed().as_secs_f64();
    let share = |used: f64| 100.0 * used / elapsed;
    report(
        "50 open consoles at rest: MongoDB's share of a core",
        share(memory::mongodb_cpu_seconds(world).await - of_mongodb),
        "%",
    );
    within(
        "50 open consoles at rest: the api's share of a core",
        share(memory::cpu_seconds(&world.api) - cpu),
        "%",
        MAX_SHARE,
    )
}

/// Reads a page again in the period of its script, without end.
async fn refresh(browser: &Browser<'_>, page: &str, delay: Duration) {
    tokio::time::sleep(delay).await;
    let mut period = interval(PERIOD);
    loop {
        period.tick().await;
        browser.open(page, true).await;
    }
}
