//! A problem as a short page for people whose browser asked.

use super::Problem;
use std::fmt::Write as _;

/// The page. It loads nothing, so it looks the same everywhere and tells nobody who reads it.
pub(super) fn of(problem: &Problem) -> String {
    let kind = problem.code.kind();
    let status = kind.status.as_u16();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status} {title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:38rem;\
         margin:12vh auto;padding:0 1rem;color-scheme:light dark}}code{{font-size:.9em}}small{{opacity:.7}}</style></head>\
         <body><h1>{title}</h1>",
        title = kind.title,
    );
    paragraph(&mut page, problem.what());
    paragraph(&mut page, problem.remedy());
    let _ = write!(page, "<small>{status} <code>{}</code>", kind.slug);
    if let Some(decision) = problem.decision {
        let _ = write!(page, ", decision <code>{decision}</code>");
    }
    page.push_str("</small></body></html>\n");
    page
}

fn paragraph(page: &mut String, text: &str) {
    page.push_str("<p>");
    for c in text.chars() {
        match c {
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '&' => page.push_str("&amp;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            c => page.push(c),
        }
    }
    page.push_str("</p>");
}
