use super::*;
use crate::declared::read_document;

const EPOCH: Epoch = Epoch { incarnation: 2, revision: 9 };

fn carried(text: &str, line: u32) -> Carried {
    let id = read_document("x.yaml", text).unwrap().id.clone();
    Carried { id, text: text.into(), file: "x.yaml".into(), line }
}

fn plans(count: usize, filler: usize) -> Parcel {
    let text = |number: usize| format!("kind: Plan\nname: p{number}\n# {}\n", "x".repeat(filler));
    let put = (0..count).map(|number| carried(&text(number), 1)).collect();
    let remove = vec![carried("kind: Plan\nname: gone\n", 1).id];
    Parcel { put, remove, files: vec![("keys".into(), Some(Bytes::from_static(b"{}"))), ("none".into(), None)] }
}

fn together(chunks: Vec<message::Chunk>) -> Assembled {
    let mut assembler = Assembler::default();
    let mut whole = None;
    for chunk in chunks {
        assert!(whole.is_none(), "the last chunk is the last");
        // As it travels.
        whole = assembler.take(message::Chunk::decode(&*chunk.encode_to_vec()).unwrap()).unwrap();
    }
    whole.unwrap()
}

#[test]
fn an_offer_of_any_size_survives_being_cut() {
    for (count, filler) in [(0, 0), (1, 0), (2_500, 10), (30, 200_000)] {
        let (chunks, signed) = chunks(plans(count, filler), None, EPOCH);
        assert!(chunks.iter().all(|chunk| chunk.encoded_len() <= MESSAGE_BYTES_MAX));
        let whole = together(chunks);
        assert_eq!((whole.epoch, whole.base, whole.offer.complete, whole.offer.epoch), (EPOCH, None, true, Some(EPOCH)));
        assert_eq!(whole.signed, signed, "both sign the same");
        assert_eq!((whole.offer.put.len(), whole.offer.remove.len(), whole.offer.broken.len()), (count, 1, 0));
        assert_eq!(whole.offer.files[1].1, None);
    }
}

#[test]
fn what_is_signed_tells_every_difference() {
    let base = Some(Epoch { incarnation: 2, revision: 8 });
    let (_, signed) = chunks(plans(3, 0), base, EPOCH);
    let others = [
        chunks(plans(3, 0), None, EPOCH).1,
        chunks(plans(3, 0), base, Epoch { revision: 10, ..EPOCH }).1,
        chunks(plans(3, 0), Some(Epoch { incarnation: 1, revision: 8 }), EPOCH).1,
        chunks(plans(3, 1), base, EPOCH).1,
    ];
    assert!(others.iter().all(|other| *other != signed));
}

#[test]
fn chunks_out_of_order_or_of_two_offers_are_refused_and_the_next_offer_is_taken() {
    let (all, _) = chunks(plans(2_500, 0), None, EPOCH);
    let (other, _) = chunks(plans(2_500, 0), None, Epoch { revision: 10, ..EPOCH });
    let mut assembler = Assembler::default();
    assert_eq!(assembler.take(all[1].clone()).unwrap_err(), WireError::Order { expected: 0, found: 1 });
    assert!(assembler.take(all[0].clone()).unwrap().is_none());
    assert_eq!(assembler.take(all[2].clone()).unwrap_err(), WireError::Order { expected: 1, found: 2 });
    assert!(assembler.take(all[0].clone()).unwrap().is_none());
    assert_eq!(assembler.take(other[1].clone()).unwrap_err(), WireError::Mixed);
    for chunk in &all {
        assembler.take(chunk.clone()).unwrap();
    }
    let garbled = message::Chunk { body: Bytes::from_static(b"\xff\xff\xff"), ..all[0].clone() };
    assert_eq!(assembler.take(garbled).unwrap_err(), WireError::Garbled);
    assert_eq!(assembler.take(message::Chunk::default()).unwrap_err(), WireError::Missing("epoch"));
}

#[test]
fn a_document_that_this_version_cannot_read_is_named_and_hides_no_other() {
    let future = message::Document {
        id: Some(message::DocumentId { kind: "Teapot".into(), tenant: String::new(), name: "t".into() }),
        text: "kind: Teapot\nname: t\n".into(),
        file: "future.yaml".into(),
        line: 1,
    };
    let wrong = message::Document {
        id: Some(message::DocumentId { kind: "Plan".into(), tenant: String::new(), name: "p".into() }),
        text: "kind: Plan\nname: p\nspeed: warp\n".into(),
        file: "plans.yaml".into(),
        line: 40,
    };
    let other = message::Document { text: "kind: Plan\nname: q\n".into(), ..wrong.clone() };
    let empty = message::Document { text: "# nothing\n".into(), ..wrong.clone() };
    let good = message::Document { text: "kind: Plan\nname: p\n".into(), ..wrong.clone() };
    let body = message::ChunkBody { put: vec![future, wrong, other, empty, good], ..Default::default() };
    let chunk = message::Chunk { epoch: Some(epoch_to(EPOCH)), is_last: true, body: body.encode_to_vec().into(), ..Default::default() };
    let whole = Assembler::default().take(chunk).unwrap().unwrap();
    let broken: Vec<(Option<String>, u32)> = whole
        .offer
        .broken
        .iter()
        .map(|broken| (broken.id.as_ref().map(ToString::to_string), broken.diagnostics.iter().next().unwrap().span.line))
        .collect();
    let plan = Some("Plan p".to_owned());
    assert_eq!(broken, [(None, 1), (plan.clone(), 42), (plan.clone(), 40), (plan, 40)]);
    assert_eq!(whole.offer.put[0].document.origin.span.line, 40);
}

#[test]
fn a_report_survives_the_way() {
    let tenant = Part::Tenant("acme".parse().unwrap());
    let mut diagnostics = Diagnostics::new();
    diagnostics.push(mistake("a.yaml", 3, "it is wrong".into(), None));
    let quarantined = vec![
        Quarantined { part: tenant.clone(), diagnostics: diagnostics.clone(), serving: Serving::LastGood },
        Quarantined { part: Part::File("b.yaml".into()), diagnostics, serving: Serving::Held },
    ];
    let report = Report { epoch: EPOCH, accepted: vec![Part::Platform], gone: vec![tenant], quarantined };
    let sent = report_to(&report).encode_to_vec();
    let came = report_from(message::Report::decode(&*sent).unwrap()).unwrap();
    assert_eq!(
        (came.epoch, &came.accepted, &came.gone, &came.quarantined),
        (report.epoch, &report.accepted, &report.gone, &report.quarantined)
    );
    assert!(report_from(message::Report::default()).is_err());
}
