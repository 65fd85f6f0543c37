//! Page to show after a sign-in.

/// Page without another one to return to.
const START: &str = "/console";
/// Maximum length, so that the cookie of an attempt stays small.
const LENGTH_LIMIT: usize = 1_000;

/// `path` if it is a page of the console; otherwise the first page. No address of another origin is accepted.
pub(super) fn return_path(path: &str) -> &str {
    let rest = path.strip_prefix(START);
    let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let is_plain = path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_sane = is_plain && path.len() <= LENGTH_LIMIT && !path.contains("..");
    let is_sign_in = rest.is_some_and(|rest| rest.starts_with("/sign"));
    if is_below && is_sane && !is_sign_in {
        path
    } else {
        START
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_console_are_returned_to() {
        for page in ["/console", "/console/jobs?state=discarded", "/console?a=b"] {
            assert_eq!(return_path(page), page);
        }
        for other in [
            "",
            "/",
            "//evil.test",
            "https://evil.test/console",
            "/consolex",
            "/console.evil.test",
            "/console@evil.test",
            "/console/..//evil.test",
            "/console\\evil.test",
            "/console/\r\nset-cookie: a=b",
            "/console/sign-out",
        ] {
            assert_eq!(return_path(other), "/console", "{other:?}");
        }
    }
}
