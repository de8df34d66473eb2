//! Limits as requests meet them.

use crate::support::{KEY, World, echo};

#[tokio::test]
async fn whoever_comes_with_an_api_key_is_counted_as_a_user() {
    let more = "---\nkind: QuotaPolicy\nname: each\nlimits: [{ name: user, per: user, requests: 1, window: 1h }]\n";
    let world = World::start(&[echo().await], "", more).await;
    for status in [200, 429] {
        let answer = world.ask(&format!("GET /v1/items HTTP/1.1\nHost: acme.test\nX-Api-Key: {KEY}\n\n")).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}
