//! Redis scripts: each operation runs atomically in Redis, on its clock.
//!
//! One hash for each upstream: `arrival`, `floor`, `failures`, while steps queue `queue` and `queue_until`, and while the
//! circuit is open `since`, `probe` and `interval`. Times are in microseconds, which a Lua number represents exactly.
//! `resumed` is the argument of the last `resume`.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::queue::priority::Priority;
use redis::{RedisError, Script, aio::ConnectionManager};

use super::{
    BreakerDecision, BreakerSnapshot, CallResult, CircuitTimes, QUEUE_MARK_TTL, RateBudget,
    Transition, horizon,
};

/// Clock of the scripts: Redis' own time.
const CLOCK: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
";

/// Common prologue of all scripts.
const COMMON: &str = r"
local stored = redis.call('HMGET', KEYS[1], 'arrival', 'floor', 'failures', 'since', 'probe', 'interval', 'queue', 'queue_until')
local arrival, floor, failures = tonumber(stored[1] or 0), tonumber(stored[2] or 0), tonumber(stored[3] or 0)
local since, probe, interval = tonumber(stored[4] or 0), tonumber(stored[5] or 0), tonumber(stored[6] or 0)
local queue, queue_until = tonumber(stored[7] or 0), tonumber(stored[8] or 0)
local function set(...)
    local fields = {...}
    for i = 2, #fields, 2 do fields[i] = string.format('%.0f', fields[i]) end
    redis.call('HSET', KEYS[1], unpack(fields))
    redis.call('EXPIRE', KEYS[1], 86400)
end
local function next_arrival(tolerance)
    local at = math.max(arrival, now)
    if floor > now then at = math.max(at, floor + tolerance) end
    return at
end
";

const ADMIT: &str = r"
local step, tolerance, has_reservation, ahead = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local priority = tonumber(ARGV[5])
if since > 0 then
    if now < probe then return {'open', probe - now} end
    set('probe', now + interval)
    return {'probe', 0}
end
if has_reservation and now >= floor then return {'allow', 0} end
local horizon = math.max(floor, now) + ahead
if now < queue_until and priority >= queue then return {'saturated', horizon - now} end
local at = next_arrival(tolerance)
if at - tolerance > horizon then return {'saturated', horizon - now} end
set('arrival', at + step)
if at - tolerance <= now then return {'allow', 0} end
return {'reserved', at - tolerance - now}
";

const RESERVE: &str = r"
local step, tolerance, ahead, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if since > 0 then
    if now < probe or count == 0 then return {} end
    return {0}
end
local horizon, waits = math.max(floor, now) + ahead, {}
while #waits < count do
    local at = next_arrival(tolerance)
    if at - tolerance > horizon then break end
    arrival = at + step
    waits[#waits + 1] = math.max(at - tolerance - now, 0)
end
if #waits > 0 then set('arrival', arrival) end
return waits
";

const MARK_QUEUE: &str = r"
set('queue', tonumber(ARGV[1]), 'queue_until', now + tonumber(ARGV[2]))
return 'none'
";

const RECORD: &str = r"
local result, probing, wait = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
local threshold, first, last = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if result == 'slow_down' then set('floor', math.max(floor, now + wait)) end
if result == 'answered' or result == 'slow_down' then
    if since == 0 then
        if failures > 0 then redis.call('HDEL', KEYS[1], 'failures') end
    elseif probing then
        redis.call('HDEL', KEYS[1], 'failures', 'since', 'probe', 'interval')
        return 'closed'
    end
elseif since == 0 then
    set('failures', failures + 1)
    if result == 'timed_out' or failures + 1 >= threshold then
        set('since', now, 'probe', now + first, 'interval', first)
        return 'opened'
    end
elseif probing then
    interval = math.min(2 * interval, last)
    set('probe', now + interval, 'interval', interval)
end
return 'none'
";

const FORCE_HALF_OPEN: &str = r"
if since > 0 then set('probe', now) end
return 'none'
";

const RESUME: &str = r"
if redis.call('HGET', KEYS[1], 'resumed') == ARGV[1] then return 'none' end
redis.call('HSET', KEYS[1], 'resumed', ARGV[1])
redis.call('HDEL', KEYS[1], 'floor', 'arrival')
if since > 0 then set('probe', now) end
return 'none'
";

const SNAPSHOT: &str = r"
local tolerance = tonumber(ARGV[1])
local open_for = -1
if since > 0 then open_for = now - since end
return {failures, open_for, math.max(probe - now, 0), math.max(floor - now, 0), math.max(next_arrival(tolerance) - tolerance - now, 0)}
";

pub(super) struct Scripts {
    admit: Script,
    reserve: Script,
    mark_queue: Script,
    record: Script,
    force_half_open: Script,
    resume: Script,
    snapshot: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self::with_clock(CLOCK)
    }

    /// The scripts with another clock: Lua that defines `now`.
    pub(super) fn with_clock(clock: &str) -> Self {
        let script = |rest: &str| Script::new(&format!("{clock}{COMMON}{rest}"));
        Self {
            admit: script(ADMIT),
            reserve: script(RESERVE),
            mark_queue: script(MARK_QUEUE),
            record: script(RECORD),
            force_half_open: script(FORCE_HALF_OPEN),
            resume: script(RESUME),
            snapshot: script(SNAPSHOT),
        }
    }

    pub(super) async fn admit(
        &self,
        connection: &mut ConnectionManager,
        key: &str,
        budget: RateBudget,
        has_reservation: bool,
        priority: Priority,
    ) -> Result<BreakerDecision, RedisError> {
        let (name, wait): (String, u64) = self
            .admit
            .key(key)
            .arg(micros(budget.interval()))
            .arg(micros(budget.tolerance()))
            .arg(u8::from(has_reservation))
            .arg(micros(horizon(priority)))
            .arg(priority.number())
            .invoke_async(connection)
            .await?;
        let wait = Duration::from_micros(wait);
        Ok(match name.as_str() {
            "open" => BreakerDecision::Open(wait),
            "probe" => BreakerDecision::Probe,
            "reserved" => BreakerDecision::Reserved(wait),
            "saturated" => BreakerDecision::Saturated(wait),
            _ => BreakerDecision::Allow,
        })
    }

    pub(super) async fn reserve(
        &self,
        connection: &mut ConnectionManager,
        key: &str,
        budget: RateBudget,
        priority: Priority,
        count: usize,
    ) -> Result<Vec<Duration>, RedisError> {
        let waits: Vec<u64> = self
            .reserve
            .key(key)
            .arg(micros(budget.interval()))
            .arg(micros(budget.tolerance()))
            .arg(micros(horizon(priority)))
            .arg(count)
            .invoke_async(connection)
            .await?;
        Ok(waits.into_iter().map(Duration::from_micros).collect())
    }

    pub(super) async fn mark_queue(
        &self,
        connection: &mut ConnectionManager,
        key: &str,
        lane: Option<Priority>,
    ) -> Result<(), RedisError> {
        let wait = lane.map_or(Duration::ZERO, |_| QUEUE_MARK_TTL);
        let mut call = self.mark_queue.prepare_invoke();
        let call = call
            .key(key)
            .arg(lane.map_or(0, Priority::number))
            .arg(micros(wait));
        call.invoke_async(connection).await
    }

    pub(super) async fn record(
        &self,
        connection: &mut ConnectionManager,
        key: &str,
        times: CircuitTimes,
        probing: bool,
        result: CallResult,
    ) -> Result<Transition, RedisError> {
        let (name, wait) = match result {
            CallResult::Answered => ("answered", Duration::ZERO),
            CallResult::Failed => ("failed", Duration::ZERO),
            CallResult::TimedOut => ("timed_out", Duration::ZERO),
            CallResult::SlowDown(wait) => ("slow_down", wait),
        };
        let transition: String = self
            .record
            .key(key)
            .arg(name)
            .arg(u8::from(probing))
            .arg(micros(wait))
            .arg(times.failures)
            .arg(micros(times.first_probe))
            .arg(micros(times.last_probe))
            .invoke_async(connection)
            .await?;
        Ok(match transition.as_str() {
            "opened" => Transition::Opened,
            "closed" => Transition::Closed,
            _ => Transition::None,
        })
    }

    pub(super) async fn force_half_open(
        &self,
        connection: &mut ConnectionManager,
        key: &str,
    ) -> Result<(), RedisError> {
        let mut call = self.force_half_open.prepare_invoke();
        call.key(key).invoke_async(connection).await
    }

    pub(super) async fn resume(
        &self,
        connection: &mut ConnectionManager,
        key: &str,
        requested_at: DateTime,
    ) -> Result<(), RedisError> {
        let mut call = self.resume.prepare_invoke();
        let call = call.key(key).arg(requested_at.timestamp_millis());
        call.invoke_async(connection).await
    }

    pub(super) async fn snapshot(
        &self,
        connection: &mut ConnectionManager,
        key: &str,
        budget: RateBudget,
    ) -> Result<BreakerSnapshot, RedisError> {
        let (failures, open_for, probe_in, retry_after, turn_in): (u32, i64, u64, u64, u64) = self
            .snapshot
            .key(key)
            .arg(micros(budget.tolerance()))
            .invoke_async(connection)
            .await?;
        let open_for = u64::try_from(open_for).ok().map(Duration::from_micros);
        let some = |micros: u64| (micros > 0).then(|| Duration::from_micros(micros));
        Ok(BreakerSnapshot {
            failures,
            open_for,
            probe_in: open_for.map(|_| Duration::from_micros(probe_in)),
            retry_after: some(retry_after),
            turn_in: some(turn_in),
        })
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
