//! `report`: a result of `load` as one HTML file, with plots, that asks nothing of a network.

mod plot;

use super::compare::read;
use super::result::{STEPS_OF_NINE, short};
use crate::sidecar::unusable;
use crate::versus::Ended;
use crate::versus::step::Error;
use clap::Args;
use plot::{Line, Mark, Plot, Scale};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Points that are named below a plot of seconds.
const MARKS_MAX: usize = 10;
/// Lines that one plot tells apart by their colours.
const LINES_MAX: usize = 8;

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
    let address = escaped(result.get("address").and_then(Value::as_str).unwrap_or_default());
    let head = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Load of {address}</title><style>{}</style><h1>Load of {address}</h1>",
        include_str!("report/style.css")
    );
    let parts = [shape(result), figures(result), leaks(result), over_time(result), distribution(result)];
    let tables = [percentiles(result), tenants(result), ends(result)];
    head + &parts.concat() + &tables.concat()
}

fn shape(result: &Value) -> String {
    let text = |at: &str| escaped(result.pointer(at).and_then(Value::as_str).unwrap_or_default());
    let of = |at: &str| number(result, at);
    let pace = match result.pointer("/shape/ramp").filter(|ramp| !ramp.is_null()) {
        _ if is_closed(result) => format!("closed loop, {} connections", count(of("/shape/connections"))),
        Some(ramp) => format!("open loop from {} to {} requests a second", count(number(ramp, "/from")), count(number(ramp, "/to"))),
        None => format!("open loop of {} requests a second", count(of("/shape/rate"))),
    };
    let tls = if result.get("tls") == Some(&Value::Bool(true)) { " over TLS" } else { "" };
    let (tool, protocol) = (text("/tool"), text("/protocol"));
    format!("<p>{tool}: {protocol}{tls}, {pace}, {} s.</p>", of("/shape/duration_seconds"))
}

/// What one looks at first.
fn figures(result: &Value) -> String {
    let of = |at: &str| number(result, at);
    let figures = [
        ("requests", count(of("/all/asked")), false),
        ("answers/s", count(of("/answers_per_second")), false),
        ("p50", time(of("/all/latency/p50")), false),
        ("p99", time(of("/all/latency/p99")), false),
        ("failed", count(of("/all/failed")), of("/all/failed") > 0.0),
        ("leaked", count(of("/all/leaked")), of("/all/leaked") > 0.0),
    ];
    let tile = |(name, figure, bad): (&str, String, bool)| {
        let class = if bad { " class=bad" } else { "" };
        format!("<div><b{class}>{figure}</b>{name}</div>")
    };
    format!("<div class=figures>{}</div>", figures.map(tile).concat())
}

fn leaks(result: &Value) -> String {
    let mut list = String::new();
    for leak in result.get("leaks").and_then(Value::as_array).into_iter().flatten() {
        let text = |at: &str| escaped(leak.get(at).and_then(Value::as_str).unwrap_or_default());
        let after = number(leak, "/after_seconds");
        // Writing to a String does not fail, here and below.
        let _ =
            write!(list, "<p class=bad>Leak after {after:.3} s: asked for {}, the answer names {}</p>", text("asked_for"), text("named"));
    }
    list
}

fn over_time(result: &Value) -> String {
    let seconds = list(result, "timeline");
    // What is told of a second stands at its end, the first at point 0.
    let changes = result.pointer("/policy_changes/at_seconds").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let events: Vec<f64> = changes.iter().filter_map(|at| Some(at.as_f64()? - 1.0)).collect();
    let feet = of_seconds(seconds.len());
    let plot = |title, lines, scale, unit| Plot { title, lines, feet: &feet, events: &events, scale, unit }.html();
    let quantiles = ["p50", "p90", "p99"].iter().enumerate().map(|(at, name)| line(at, name, series(seconds, &format!("/{name}"))));
    let failed = Line { class: "bad".to_owned(), ..line(0, "failed", series(seconds, "/failed")) };
    let ended = ["statuses", "lost"].into_iter().flat_map(|at| names(seconds, at, "").into_iter().map(move |name| (at, name)));
    let ended = ended.enumerate().map(|(at, (of, name))| line(at, name, named(seconds, of, name, "")));
    // The same in both plots, with the same colours.
    let tenants = names(seconds, "tenants", "/answers");
    let of_tenants = |figure| {
        let lines = tenants.iter().take(LINES_MAX).enumerate();
        lines.map(|(at, name)| line(at, name, named(seconds, "tenants", name, figure))).collect()
    };
    [
        plot("Latency, each second", quantiles.collect(), Scale::Even, time_of_scale),
        plot("Answers, each second", vec![line(0, "answers", series(seconds, "/answers")), failed], Scale::Even, count),
        plot("How requests ended, each second", ended.take(LINES_MAX).collect(), Scale::Decades, count),
        plot("Answers of tenants, each second", of_tenants("/answers"), Scale::Even, count),
        plot("Latency of tenants at p99, each second", of_tenants("/p99"), Scale::Even, time_of_scale),
    ]
    .concat()
}

/// Names in the maps that the seconds have at `at`, those with most of `figure` first.
fn names<'a>(seconds: &'a [Value], at: &str, figure: &str) -> Vec<&'a str> {
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for (name, of) in seconds.iter().filter_map(|second| second.get(at)?.as_object()).flatten() {
        *sums.entry(name).or_default() += number(of, figure);
    }
    let mut names: Vec<_> = sums.into_iter().collect();
    names.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    names.into_iter().map(|(name, _)| name).collect()
}

/// What every second has for one of these names: nothing, where it is not named.
fn named(seconds: &[Value], at: &str, name: &str, figure: &str) -> Vec<f64> {
    let of = |second: &Value| second.get(at).and_then(|map| map.get(name)).map_or(0.0, |of| number(of, figure));
    seconds.iter().map(of).collect()
}

/// In a closed loop nobody waits for a request that is not sent yet: both times are one.
fn distribution(result: &Value) -> String {
    let shares = list(result, "distribution");
    let sent = series(shares, "/service");
    let lines = match is_closed(result) {
        true => vec![line(0, "from sent", sent)],
        false => vec![line(0, "from due", series(shares, "/latency")), line(1, "from sent", sent)],
    };
    let title = "Latency that a share of the answers does not exceed";
    Plot { title, lines, feet: &nines(shares.len()), events: &[], scale: Scale::Even, unit: time_of_scale }.html()
}

fn percentiles(result: &Value) -> String {
    let rows: &[_] = match is_closed(result) {
        true => &[("from sent", "/all/latency"), ("held back by the load itself", "/lag")],
        false => &[("from due", "/all/latency"), ("from sent", "/all/service"), ("from due to sent", "/lag")],
    };
    let mut table = "<h2>Percentiles</h2><table><tr><th><th>p50<th>p90<th>p99<th>p99.9<th>p99.99<th>max".to_owned();
    for (name, at) in rows {
        let _ = write!(table, "<tr><td>{name}");
        for quantile in ["p50", "p90", "p99", "p999", "p9999", "max"] {
            let _ = write!(table, "<td>{}", time(number(result, &format!("{at}/{quantile}"))));
        }
    }
    table + "</table>"
}

fn tenants(result: &Value) -> String {
    let mut table = "<h2>Tenants</h2><table><tr><th>tenant<th>requests<th>failed<th>leaked<th>p50<th>p99<th>max".to_owned();
    for (name, of) in result.get("tenants").and_then(Value::as_object).into_iter().flatten() {
        let _ = write!(table, "<tr><td>{}<td>{}", escaped(name), count(number(of, "/asked")));
        for at in ["/failed", "/leaked"] {
            let of = number(of, at);
            let class = if of > 0.0 { " class=bad" } else { "" };
            let _ = write!(table, "<td{class}>{}", count(of));
        }
        for at in ["/latency/p50", "/latency/p99", "/latency/max"] {
            let _ = write!(table, "<td>{}", time(number(of, at)));
        }
    }
    table + "</table>"
}

fn ends(result: &Value) -> String {
    let mut table = "<h2>How requests ended</h2><table><tr><th>status, or what was lost<th>requests".to_owned();
    for at in ["/all/statuses", "/all/lost"] {
        for (name, of) in result.pointer(at).and_then(Value::as_object).into_iter().flatten() {
            let _ = write!(table, "<tr><td>{}<td>{}", escaped(name), count(number(of, "")));
        }
    }
    table + "</table>"
}

fn is_closed(result: &Value) -> bool {
    result.pointer("/shape/loop").and_then(Value::as_str) == Some("closed")
}

fn number(value: &Value, at: &str) -> f64 {
    value.pointer(at).and_then(Value::as_f64).unwrap_or(0.0)
}

fn list<'a>(result: &'a Value, at: &str) -> &'a [Value] {
    result.get(at).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn series(entries: &[Value], at: &str) -> Vec<f64> {
    entries.iter().map(|entry| number(entry, at)).collect()
}

fn line(at: usize, name: &str, values: Vec<f64>) -> Line {
    Line { name: name.to_owned(), class: format!("s{at}"), values }
}

fn of_seconds(points: usize) -> Vec<Mark> {
    let step = points.div_ceil(MARKS_MAX).max(1);
    (0..points).step_by(step).map(|at| (at as f64, format!("{} s", at + 1))).collect()
}

/// The least, the middle, and a percentile for each nine.
fn nines(points: usize) -> Vec<Mark> {
    let name = |nines: usize| match nines {
        0 => "p0".to_owned(),
        1 => "p90".to_owned(),
        2 => "p99".to_owned(),
        more => format!("p99.{}", "9".repeat(more - 2)),
    };
    let middle = (2_f64.log10() * STEPS_OF_NINE as f64, "p50".to_owned());
    let nines = (0..points).step_by(STEPS_OF_NINE).map(|at| (at as f64, name(at / STEPS_OF_NINE)));
    nines.chain([middle]).filter(|(at, _)| *at < points as f64).collect()
}

fn time(micros: f64) -> String {
    short(Duration::from_secs_f64((micros / 1e6).clamp(0.0, 1e9)))
}

/// Beside a scale, where figures are round: without zeros that say nothing.
fn time_of_scale(micros: f64) -> String {
    let text = time(micros);
    match text.split_once(' ') {
        Some(("0", _)) => "0".to_owned(),
        Some((number, unit)) if number.contains('.') => format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.')),
        _ => text,
    }
}

/// Digits in threes.
fn count(count: f64) -> String {
    let rounded = count.round();
    if (count - rounded).abs() > 1e-9 && count < 100.0 { format!("{count:.1}") } else { super::view::grouped(rounded as u64) }
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
        let named = |marks: Vec<Mark>| marks.iter().map(|(at, text)| format!("{at:.1} {text}")).collect::<Vec<_>>();
        assert_eq!(named(nines(26)), ["0.0 p0", "8.0 p90", "16.0 p99", "24.0 p99.9", "2.4 p50"]);
        assert_eq!(named(of_seconds(3)), ["0.0 1 s", "1.0 2 s", "2.0 3 s"]);
        assert_eq!(of_seconds(25).len(), 9);
        assert_eq!((nines(0).len(), of_seconds(0).len()), (0, 0));
    }

    #[test]
    fn figures_are_as_short_as_they_can_be() {
        for (micros, text) in [(0.0, "0"), (200.0, "200 µs"), (20_000.0, "20 ms"), (1_250.0, "1.25 ms"), (1.5e6, "1.5 s")] {
            assert_eq!(time_of_scale(micros), text);
        }
        for (of, text) in [(0.0, "0"), (2.5, "2.5"), (999.6, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(count(of), text);
        }
    }

    #[test]
    fn what_a_server_names_is_text_and_never_markup() {
        let evil = "<script src=//evil.test>";
        let second = json!({ "p50": 10, "p99": 20, "answers": 7, "statuses": { "200": 7 }, "tenants": { evil: { "answers": 7 } } });
        let result = json!({
            "address": "a", "all": { "statuses": { "200": 7 }, "leaked": 1 }, "tenants": { evil: { "asked": 7 } },
            "leaks": [{ "asked_for": "acme", "named": evil, "after_seconds": 1.5 }], "timeline": [second],
        });
        let page = page(&result);
        assert!(!page.contains("<script") && page.matches("&lt;script").count() == 4, "{page}");
        assert!(page.contains("<td>200<td>7"), "{page}");
    }

    #[test]
    fn statuses_and_tenants_have_a_line_each_over_time() {
        let second = |ok: u64, refused: u64| {
            let tenants = json!({ "acme": { "answers": ok, "p99": 5 }, "globex": { "answers": refused, "p99": 7 } });
            json!({ "statuses": { "200": ok, "429": refused }, "lost": { "timeout": 1 }, "tenants": tenants })
        };
        let seconds = [second(10, 90), second(20, 80)];
        assert_eq!(names(&seconds, "statuses", ""), ["429", "200"]);
        assert_eq!(named(&seconds, "statuses", "429", ""), [90.0, 80.0]);
        assert_eq!(named(&seconds, "tenants", "acme", "/p99"), [5.0, 5.0]);
        let drawn = over_time(&json!({ "timeline": seconds, "policy_changes": { "at_seconds": [1.5] } }));
        for (title, names) in [
            ("How requests ended", &["429", "200", "timeout"][..]),
            ("Answers of tenants", &["globex", "acme"]),
            ("Latency of tenants", &["globex", "acme"]),
        ] {
            let plot = drawn.split("<h2>").find(|plot| plot.starts_with(title)).unwrap_or_default();
            assert_eq!(plot.matches("<polyline").count(), names.len(), "{title}: {plot}");
            assert!(names.iter().all(|name| plot.contains(&format!(">{name}<"))) && plot.contains("path class=event"), "{title}: {plot}");
        }
    }

    #[test]
    fn a_closed_loop_has_no_time_from_due() {
        let of = |kind: &str| page(&json!({ "shape": { "loop": kind }, "distribution": [{ "latency": 2, "service": 1 }] }));
        assert!(of("open").contains("from due") && of("open").contains("from sent"));
        assert!(!of("closed").contains("from due") && of("closed").contains("from sent"));
    }

    #[test]
    fn a_page_asks_nothing_of_a_network() {
        let page = page(&json!({}));
        for word in ["http:", "https:", "src=", "url(", "@import", "<link"] {
            assert!(!page.contains(word), "{word}");
        }
    }
}
