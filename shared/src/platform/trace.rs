//! Distributed tracing: one trace from the request, through the job's document, into the upstream calls.
//!
//! The context travels as W3C Trace Context `traceparent`: in the request header, in the job's field of that name, and
//! in the header of every upstream call. Without [`telemetry`](crate::platform::telemetry), every function here is a
//! no-op.

use opentelemetry::{
    SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Name of the header, and of a job's field, that carries the context.
pub const TRACEPARENT: &str = "traceparent";

/// Makes the new `span` a child of the remote span in `traceparent`. Ignored if malformed.
pub fn set_remote_parent(span: &Span, traceparent: &str) {
    if let Some(parent) = parse(traceparent) {
        let parent = opentelemetry::Context::new().with_remote_span_context(parent);
        // Fails if tracing is not installed.
        let _ = span.set_parent(parent);
    }
}

/// The `traceparent` of `span`; `None` if tracing is not installed.
pub fn traceparent(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags()
        )
    })
}

/// Trace id of a `traceparent`, as in logs.
pub fn trace_id(traceparent: &str) -> Option<&str> {
    parse(traceparent)?;
    traceparent.split('-').nth(1)
}

/// Whether the text is `00-<trace>-<parent>-<flags>` in lower-case hexadecimal, with neither id all zeros.
pub fn is_traceparent(text: &str) -> bool {
    parse(text).is_some()
}

fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let [version, trace, parent, flags] = [(); 4].map(|()| parts.next());
    if version != Some("00") || parts.next().is_some() {
        return None;
    }
    let trace = TraceId::from_hex(hex(trace?, 32)?).ok()?;
    let parent = SpanId::from_hex(hex(parent?, 16)?).ok()?;
    let flags = u8::from_str_radix(hex(flags?, 2)?, 16).ok()?;
    let context = SpanContext::new(
        trace,
        parent,
        TraceFlags::new(flags),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

fn hex(part: &str, length: usize) -> Option<&str> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (part.len() == length && part.bytes().all(is_digit)).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_a_well_formed_traceparent_is_accepted() {
        assert!(is_traceparent(GOOD));
        for odd in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-+1",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-ébf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(odd), "{odd}");
            assert_eq!(trace_id(odd), None, "{odd}");
        }
    }

    #[test]
    fn the_second_part_is_the_trace_id() {
        assert_eq!(trace_id(GOOD), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    }

    #[test]
    fn without_tracing_there_is_no_traceparent() {
        let span = tracing::info_span!("request");

        set_remote_parent(&span, GOOD);

        assert_eq!(traceparent(&span), None);
    }
}
