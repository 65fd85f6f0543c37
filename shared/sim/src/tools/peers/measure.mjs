// Measurements as lines of JSON, which `cargo dev bench` reads.

export function report(name, value, unit) {
  console.log(JSON.stringify({ name, value, unit }));
}

/** Runs `work` for the numbers below `count`, `width` at a time. Returns the rate per second. */
export async function rate(count, width, work) {
  const began = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async () => {
      while (next < count) await work(next++);
    }),
  );
  return perSecond(count, began);
}

/** `count` per second since `began`. */
export function perSecond(count, began) {
  return count / ((performance.now() - began) / 1000);
}

/** A promise that is kept once `done` was called `count` times. */
export function countdown(count) {
  let left = count;
  let finish;
  const all = new Promise((resolve) => (finish = resolve));
  return { all, done: () => --left === 0 && finish() };
}

/** The percentile `part` (0 to 1). */
export function percentile(values, part) {
  values.sort((one, other) => one - other);
  return values[Math.min(Math.floor(values.length * part), values.length - 1)];
}
