//! What a token says: claims can be set and taken away at will, so that broken tokens are as easy to make as good ones.

use serde_json::{Map, Value};

/// What a token says.
pub type Claims = Map<String, Value>;

/// Replaces claims by others of the same name; `null` takes one away.
pub fn replace(claims: &mut Claims, by: &Claims) {
    for (name, value) in by {
        match value {
            Value::Null => claims.remove(name),
            value => claims.insert(name.clone(), value.clone()),
        };
    }
}

/// Reads claims from a JSON object.
///
/// # Errors
/// In words for whoever wrote it.
pub fn object(text: &str) -> Result<Claims, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(claims)) => Ok(claims),
        Ok(_) => Err("it is not a JSON object like {\"mfa\": true}".into()),
        Err(cause) => Err(format!("it is not JSON: {cause}")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn claims_are_replaced_added_and_taken_away() {
        let mut claims = object(r#"{"aud":"demo","sub":"alice","exp":9}"#).unwrap();
        replace(&mut claims, &object(r#"{"aud":["other"],"exp":null,"mfa":true,"none":null}"#).unwrap());
        assert_eq!(claims, object(r#"{"aud":["other"],"sub":"alice","mfa":true}"#).unwrap());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["[]", "1", "null", "{", ""] {
            assert!(object(bad).is_err(), "{bad}");
        }
    }
}
