//! `report`: a result of `load` as one HTML file, with plots, that asks nothing of a network.

use super::compare::read;
use super::result::STEPS_OF_NINE;
use crate::sidecar::unusable;
use crate::versus::Ended;
use crate::versus::step::Error;
use clap::Args;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Size of a plot, in its own units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 180.0;
/// Points that are named below a plot of seconds.
const MARKS_MAX: usize = 10;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2433;--soft:#687086;--line:#dfe3ea;--paper:#fff;--a:#2563eb;--b:#d97706;--bad:#c62828}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9f0;--soft:#98a1b5;--line:#2c3446;--paper:#131824;--a:#7aa7ff;--b:#f5b556;--bad:#ff8a80}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:800px;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}p{color:var(--soft)}svg{width:100%;height:auto}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:right;padding:.3rem .5rem;border-bottom:1px solid var(--line)}\
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:500}.bad{color:var(--bad);font-weight:600}\
text{fill:var(--soft);font:11px system-ui,sans-serif}.grid{stroke:var(--line)}.a{stroke:var(--a)}.b{stroke:var(--b)}\
.plot{fill:none;stroke-width:2;stroke-linejoin:round}\
.ka{color:var(--a)}.kb{color:var(--b)}";

/// Make an HTML report of a result of `load`: one file, no network
#[derive(Args)]
pub(crate) struct Options {
    /// Result, as `load --output` wrote it
    result: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<Ended, Error> {
    let result = read(&options.result)?;
    std::fs::write(&options.html, page(&result)).map_err(unusable(options.html.display()))?;
    Ok(Ended::Done)
}

fn page(result: &Value) -> String {
    let text = |at: &str| escaped(result.pointer(at).and_then(Value::as_str).unwrap_or_default());
    let of = |at: &str| number(result, at);
    let failed = of("/all/failed");
    let class = if failed > 0.0 { "bad" } else { "" };
    let (address, tool, shape) = (text("/address"), text("/tool"), text("/shape/loop"));
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Load of {address}</title>\
         <style>{STYLE}</style><h1>Load of {address}</h1>\
         <p>{tool}, {shape} loop, {} connections, {} s. <span class=\"{class}\">{failed} of {} requests failed, {} leaked.</span></p>",
        of("/shape/connections"),
        of("/shape/duration_seconds"),
        of("/all/asked"),
        of("/all/leaked"),
    );
    // Writing to a String does not fail, here and below.
    let _ = write!(page, "<h2>Latency over time: <span class=ka>p50</span>, <span class=kb>p99</span></h2>");
    page.push_str(&plot(&[("a", series(result, "timeline", "p50")), ("b", series(result, "timeline", "p99"))], &of_seconds, time));
    let _ = write!(page, "<h2>Each second: <span class=ka>answers</span>, <span class=kb>failed</span></h2>");
    let answers = [("a", series(result, "timeline", "answers")), ("b", series(result, "timeline", "failed"))];
    page.push_str(&plot(&answers, &of_seconds, |count| format!("{count:.0}")));
    let _ = write!(page, "<h2>Share of answers that were as fast: <span class=ka>from due</span>, <span class=kb>from sent</span></h2>");
    let shares = [("a", series(result, "distribution", "latency")), ("b", series(result, "distribution", "service"))];
    page.push_str(&plot(&shares, &nines, time));
    page.push_str("<h2>Percentiles, from when a request was due and from when it was sent</h2>");
    page.push_str(&percentiles(result));
    page.push_str("<h2>Tenants</h2>");
    page.push_str(&tenants(result));
    page.push_str("<h2>How requests ended</h2>");
    page.push_str(&ends(result));
    page.push_str(&leaks(result));
    page
}

fn number(value: &Value, at: &str) -> f64 {
    value.pointer(at).and_then(Value::as_f64).unwrap_or(0.0)
}

/// What each entry of list `at` has for `name`.
fn series(result: &Value, at: &str, name: &str) -> Vec<f64> {
    let entries = result.get(at).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    entries.iter().map(|entry| entry.get(name).and_then(Value::as_f64).unwrap_or(0.0)).collect()
}

/// What is told below a plot of so many points: at which of them, and what.
type Marks = dyn Fn(usize) -> Vec<(usize, String)>;

fn of_seconds(points: usize) -> Vec<(usize, String)> {
    let step = points.div_ceil(MARKS_MAX).max(1);
    (0..points).step_by(step).map(|at| (at, format!("{} s", at + 1))).collect()
}

/// A percentile for each nine.
fn nines(points: usize) -> Vec<(usize, String)> {
    let name = |nines: usize| match nines {
        0 => "fastest".to_owned(),
        1 => "p90".to_owned(),
        2 => "p99".to_owned(),
        more => format!("p99.{}", "9".repeat(more - 2)),
    };
    (0..points).step_by(STEPS_OF_NINE).map(|at| (at, name(at / STEPS_OF_NINE))).collect()
}

/// Lines over points at even distances, from zero to a little above the highest.
fn plot(lines: &[(&str, Vec<f64>)], marks: &Marks, label: impl Fn(f64) -> String) -> String {
    let top = lines.iter().flat_map(|(_, values)| values).fold(0.0_f64, |top, value| top.max(*value)) * 1.1;
    let top = if top > 0.0 { top } else { 1.0 };
    let mut svg = format!("<svg viewBox=\"0 0 {} {}\" role=img>", WIDTH + 100.0, HEIGHT + 24.0);
    for share in [0.0, 0.5, 1.0] {
        let y = 4.0 + HEIGHT * (1.0 - share);
        let _ = write!(
            svg,
            "<path class=grid d=\"M70 {y:.1}H{}\"/><text x=64 y={:.1} text-anchor=end>{}</text>",
            WIDTH + 70.0,
            y + 4.0,
            label(top * share)
        );
    }
    let count = lines.first().map_or(0, |(_, values)| values.len());
    let step = WIDTH / (count.saturating_sub(1).max(1) as f64);
    for (class, values) in lines {
        let points = values
            .iter()
            .enumerate()
            .map(|(at, value)| format!("{:.1},{:.1}", 70.0 + at as f64 * step, 4.0 + HEIGHT * (1.0 - value / top)));
        let _ = write!(svg, "<polyline class=\"plot {class}\" points=\"{}\"/>", points.collect::<Vec<_>>().join(" "));
    }
    for (at, text) in marks(count) {
        let _ = write!(svg, "<text x={:.1} y={} text-anchor=middle>{text}</text>", 70.0 + at as f64 * step, HEIGHT + 20.0);
    }
    svg + "</svg>"
}

fn percentiles(result: &Value) -> String {
    let mut table = "<table><tr><th><th>p50<th>p90<th>p99<th>p99.9<th>p99.99<th>max".to_owned();
    for (name, at) in [("latency, from due", "/all/latency"), ("service, from sent", "/all/service"), ("from due to sent", "/lag")] {
        let _ = write!(table, "<tr><td>{name}");
        for quantile in ["p50", "p90", "p99", "p999", "p9999", "max"] {
            let _ = write!(table, "<td>{}", time(number(result, &format!("{at}/{quantile}"))));
        }
    }
    table + "</table>"
}

fn tenants(result: &Value) -> String {
    let mut table = "<table><tr><th>tenant<th>requests<th>failed<th>leaked<th>p50<th>p99<th>max".to_owned();
    for (name, of) in result.get("tenants").and_then(Value::as_object).into_iter().flatten() {
        let class = if number(of, "/failed") > 0.0 { "bad" } else { "" };
        let _ = write!(
            table,
            "<tr><td>{}<td>{}<td class=\"{class}\">{}<td>{}",
            escaped(name),
            number(of, "/asked"),
            number(of, "/failed"),
            number(of, "/leaked")
        );
        for at in ["/latency/p50", "/latency/p99", "/latency/max"] {
            let _ = write!(table, "<td>{}", time(number(of, at)));
        }
    }
    table + "</table>"
}

fn ends(result: &Value) -> String {
    let mut table = "<table><tr><th>status, or what was lost<th>requests".to_owned();
    for at in ["/all/statuses", "/all/lost"] {
        for (name, count) in result.pointer(at).and_then(Value::as_object).into_iter().flatten() {
            let _ = write!(table, "<tr><td>{}<td>{}", escaped(name), escaped(&count.to_string()));
        }
    }
    table + "</table>"
}

fn leaks(result: &Value) -> String {
    let mut list = String::new();
    for leak in result.get("leaks").and_then(Value::as_array).into_iter().flatten() {
        let text = |at: &str| escaped(leak.get(at).and_then(Value::as_str).unwrap_or_default());
        let after = number(leak, "/after_seconds");
        let _ = write!(list, "<p class=bad>Leak after {after:.3} s: asked for {}, the answer names {}", text("asked_for"), text("named"));
    }
    list
}

fn time(micros: f64) -> String {
    super::result::short(std::time::Duration::from_secs_f64((micros / 1e6).clamp(0.0, 1e9)))
}

/// Names come from servers: nothing of them is markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_plotted_is_named_below() {
        let named = |marks: Vec<(usize, String)>| marks.iter().map(|(at, text)| format!("{at} {text}")).collect::<Vec<_>>();
        assert_eq!(named(nines(26)), ["0 fastest", "8 p90", "16 p99", "24 p99.9"]);
        assert_eq!(named(of_seconds(3)), ["0 1 s", "1 2 s", "2 3 s"]);
        assert_eq!(of_seconds(25).len(), 9);
        assert_eq!((nines(0).len(), of_seconds(0).len()), (0, 0));
    }

    #[test]
    fn what_a_server_names_is_text_and_never_markup() {
        let evil = "<script src=//evil.test>";
        let result = json!({
            "address": "a", "all": { "statuses": { "200": 7 }, "leaked": 1 }, "tenants": { evil: { "asked": 7 } },
            "leaks": [{ "asked_for": "acme", "named": evil, "after_seconds": 1.5 }], "timeline": [{ "p50": 10, "p99": 20, "answers": 7 }],
        });
        let page = page(&result);
        assert!(!page.contains("<script") && page.matches("&lt;script").count() == 2, "{page}");
        assert!(page.contains("<td>200<td>7") && page.contains("polyline"), "{page}");
    }

    #[test]
    fn a_page_asks_nothing_of_a_network() {
        let page = page(&json!({}));
        for word in ["http:", "https:", "src=", "url(", "@import", "<link"] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
