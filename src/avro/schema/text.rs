//! The schema as text: nesting, lines, white space.

/// Calls `visit` with each byte's offset, the byte, and whether it stands inside a JSON string (quotes included).
fn scan(text: &str, mut visit: impl FnMut(usize, u8, bool) -> bool) {
    let (mut inside, mut escaped) = (false, false);
    for (offset, byte) in text.bytes().enumerate() {
        let quote = byte == b'"' && !escaped;
        if !visit(offset, byte, inside || quote) {
            return;
        }
        if quote {
            inside = !inside;
        }
        escaped = inside && byte == b'\\' && !escaped;
    }
}

/// The line where brackets nest deeper than `limit`.
pub fn too_deep(text: &str, limit: usize) -> Option<usize> {
    let (mut depth, mut found) = (0usize, None);
    scan(text, |offset, byte, inside| {
        match byte {
            b'{' | b'[' if !inside => depth += 1,
            b'}' | b']' if !inside => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            found = Some(line_at(text, offset));
        }
        found.is_none()
    });
    found
}

/// Valid JSON without white space between its tokens; keys keep their order.
pub fn compact(text: &str) -> String {
    let mut kept = Vec::with_capacity(text.len());
    scan(text, |_, byte, inside| {
        if inside || !byte.is_ascii_whitespace() {
            kept.push(byte);
        }
        true
    });
    // Only whole ASCII characters were left out, so it is UTF-8 still.
    String::from_utf8(kept).unwrap_or_else(|_| text.to_string())
}

/// Line, from 1, of the `nth` (from 0) `"name": "…"` with this name.
pub fn line_of_name(text: &str, name: &str, nth: usize) -> Option<usize> {
    const KEY: &str = "\"name\"";
    let quoted = serde_json::Value::from(name).to_string();
    text.match_indices(KEY)
        .filter(|(offset, _)| {
            let after = text.get(offset + KEY.len()..).unwrap_or_default().trim_start();
            after.strip_prefix(':').is_some_and(|value| value.trim_start().starts_with(&quoted))
        })
        .nth(nth)
        .map(|(offset, _)| line_at(text, offset))
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// serde_json's sentence without its " at line 3 column 4".
pub fn without_position(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}
