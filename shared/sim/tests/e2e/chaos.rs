//! A short chaos run.

use std::{path::Path, time::Duration};

use dezky_sim::{
    chaos::{self, Options},
    isolated_stores, workspace,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_holds_under_fire() {
    let api = isolated_stores::binary("dezky-api").unwrap();
    let options = Options {
        seed: 1,
        length: Duration::from_secs(35),
        binaries: api.parent().map(Path::to_owned).unwrap(),
        directory: workspace::dev().join("chaos").join("test"),
    };

    let report = chaos::run(options).await.unwrap();

    // Printed before the panic: a message of that length hides its end.
    eprintln!("{report}");
    assert!(report.holds(), "{}", report.violations());
}
