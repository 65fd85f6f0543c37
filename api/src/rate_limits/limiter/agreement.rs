//! Property test: the Redis script and the bucket in memory grant the same batches at the same times.

use proptest::{collection::vec, prelude::*};
use redis::AsyncCommands as _;

use super::{script::LeaseScript, *};

/// Reads the clock from a key of its own, which the test sets.
const MANUAL_CLOCK: &str = r"
local now = tonumber(redis.call('GET', KEYS[1] .. ':now'))
";
/// A present-day time in microseconds, since Lua counts in floating point.
const START: u64 = 1_795_339_800_000_000;
/// Unit of time: 1/64 s. Refills at whole rates are then exact in floating point and in the six stored decimals.
const TICK: u64 = 15_625;
/// Tolerated difference of wait times: the script rounds up to microseconds.
const ROUNDING: Duration = Duration::from_micros(1);

fn limit() -> impl Strategy<Value = Limit> {
    (1..500_u32, 1..200_u32).prop_map(|(per_second, burst)| Limit {
        per_second: per_second.into(),
        burst,
    })
}

/// Steps of the clock before each batch, in ticks. Clocks may step back.
fn steps() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![4 => Just(0), 4 => 0..8_i64, 1 => 0..2_000_i64, 1 => -64..0_i64];
    vec(step, 1..80)
}

/// Takes a batch from both buckets after each step, and compares the batches.
async fn compare(config: &RedisConfig, limit: Limit, steps: &[i64]) -> Result<(), TestCaseError> {
    let script = LeaseScript::with_clock(MANUAL_CLOCK);
    let mut connection = shared_connection(config.client().unwrap()).unwrap();
    let key = format!("{}:{}", config.prefix, uuid::Uuid::now_v7());
    let clock = format!("{key}:now");
    let mut bucket = Bucket::default();
    let mut ticks = START / TICK;

    for step in steps {
        ticks = ticks.saturating_add_signed(*step);
        let now = ticks * TICK;
        let _: () = connection.set(&clock, now).await.unwrap();

        let expected = bucket.take(limit, Duration::from_micros(now));
        let batch = script.take(&mut connection, &key, limit).await.unwrap();
        // Redis expires keys by its own clock.
        let _: bool = connection.persist(&key).await.unwrap();

        prop_assert_eq!(batch.granted, expected.granted, "{} ticks", step);
        let difference = batch.wait.abs_diff(expected.wait);
        prop_assert!(difference <= ROUNDING, "{:?} {:?}", batch, expected);
    }
    Ok(())
}

#[test]
fn the_script_and_the_bucket_agree() {
    let stores = dezky_sim::isolated_stores::FreshStores::new().unwrap();
    let config = RedisConfig {
        url: stores.redis_url.clone(),
        prefix: stores.redis_prefix.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();

    proptest!(ProptestConfig::with_cases(64), |(limit in limit(), steps in steps())| {
        runtime.block_on(compare(&config, limit, &steps))?;
    });
}
