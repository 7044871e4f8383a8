//! The files of the dashboard, which are part of the program.

use crate::response::Response;

/// The file with this name; the empty name is that of the page.
pub(crate) fn file(name: &str) -> Option<Response> {
    let (content_type, content) = match name {
        "" => ("text/html; charset=utf-8", include_str!("page/page.html")),
        "page.css" => ("text/css; charset=utf-8", include_str!("page/page.css")),
        "page.js" => (
            "text/javascript; charset=utf-8",
            include_str!("page/page.js"),
        ),
        _ => return None,
    };
    Some(Response::new(content_type, content.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Body;

    #[test]
    fn the_page_is_small_and_has_no_code_of_others() {
        let mut size = 0;
        for name in ["", "page.css", "page.js"] {
            let Body::Whole(content) = file(name).expect("a file").body else {
                panic!("it is whole");
            };
            size += content.len();
            let text = String::from_utf8_lossy(&content).into_owned();
            for address in ["http://", "https://", "//cdn", "@import"] {
                let svg = text.matches("http://www.w3.org/2000/svg").count();
                let count = text.matches(address).count();
                assert!(
                    count == 0 || address == "http://" && count == svg,
                    "{name}: {address}"
                );
            }
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "document.write",
                "eval(",
            ] {
                assert!(!text.contains(way), "{name} makes markup from text: {way}");
            }
        }
        assert!(size <= 48_000, "{size} bytes");
        assert!(file("other").is_none());
    }
}
