//! The OpenAPI document as a page for people: plain HTML, without scripts.
//!
//! All text of the document is escaped.

use serde_json::Value;

/// The page.
pub(super) fn page(document: &Value) -> String {
    let info = &document["info"];
    let title = format!(
        "<h1>{} <small>{}</small></h1>\n<p>{}</p>\n{}<p><a href=\"/openapi.json\">openapi.json</a></p>\n",
        escaped(text(&info["title"])),
        escaped(text(&info["version"])),
        escaped(text(&info["summary"])),
        paragraphs(text(&info["description"])),
    );
    let mut html = vec![HEAD.to_owned(), title, contents(document)];
    for tag in items(&document["tags"]) {
        let name = text(&tag["name"]);
        html.push(format!("<h2 id=\"{0}\">{0}</h2>\n", escaped(name)));
        html.push(paragraphs(text(&tag["description"])));
        for (address, methods) in members(&document["paths"]) {
            for (method, operation) in members(methods) {
                if items(&operation["tags"]).any(|tag| tag == name) {
                    html.push(self::operation(document, address, method, operation));
                }
            }
        }
    }
    html.push("<h2 id=\"schemas\">Schemas</h2>\n".to_owned());
    let schemas = members(&document["components"]["schemas"]);
    html.extend(schemas.map(|(name, schema)| self::schema(name, schema)));
    html.push("</main>\n</body>\n</html>\n".to_owned());
    html.concat()
}

fn contents(document: &Value) -> String {
    let names = items(&document["tags"]).map(|tag| text(&tag["name"])).chain(["schemas"]);
    let links = names.map(|name| format!("<li><a href=\"#{0}\">{0}</a></li>", escaped(name)));
    format!("<nav><ul>{}</ul></nav>\n", links.collect::<Vec<_>>().concat())
}

fn operation(document: &Value, address: &str, method: &str, operation: &Value) -> String {
    let id = escaped(text(&operation["operationId"]));
    let mut html = format!(
        "<details><summary><span class=\"verb\">{}</span><code>{}</code> <span class=\"about\">{}</span></summary>\n<div id=\"{id}\">\n{}",
        escaped(&method.to_uppercase()),
        escaped(address),
        inline(text(&operation["summary"])),
        paragraphs(text(&operation["description"])),
    );
    let parameters = items(&operation["parameters"]).map(|given| {
        let given = resolved(document, given);
        let name = format!("<code>{}</code>", escaped(text(&given["name"])));
        [name, escaped(text(&given["in"])), inline(text(&given["description"]))]
    });
    html += &table("Parameters", ["name", "in", "meaning"], parameters);
    let body = members(&operation["requestBody"]["content"]);
    let body = body.map(|(media, content)| {
        [format!("<code>{}</code>", escaped(media)), shape(&content["schema"]), String::new()]
    });
    html += &table("Body", ["type", "schema", ""], body);
    let responses = members(&operation["responses"]).map(|(status, response)| {
        let response = resolved(document, response);
        let headers = members(&response["headers"]).map(|(name, _)| escaped(name));
        let headers = headers.collect::<Vec<_>>().join(", ");
        let about = inline(text(&response["description"]));
        let contents = members(&response["content"]).map(|(media, content)| {
            format!("<br><code>{}</code> {}", escaped(media), shape(&content["schema"]))
        });
        let contents = contents.collect::<Vec<_>>().concat();
        [escaped(status), about + &contents, headers]
    });
    html += &table("Responses", ["status", "meaning", "headers"], responses);
    html + &format!(
        "<p>Over gRPC: <code>{}</code></p>\n</div></details>\n",
        escaped(text(&operation["x-grpc-method"]))
    )
}

fn schema(name: &str, schema: &Value) -> String {
    let fields = members(&schema["properties"]).map(|(name, field)| {
        let is_required = items(&schema["required"]).any(|required| required == name);
        let note = if is_required { " <em>required</em>" } else { "" };
        let name = format!("<code>{}</code>{note}", escaped(name));
        [name, shape(field), inline(text(&field["description"]))]
    });
    let fields = table("", ["field", "type", "meaning"], fields);
    let values =
        items(&schema["enum"]).map(|value| format!("<code>{}</code>", escaped(text(value))));
    format!(
        "<details><summary><code>{0}</code></summary>\n<div id=\"{0}\">\n{1}{2}<p>{3}</p>\n</div></details>\n",
        escaped(name),
        paragraphs(text(&schema["description"])),
        fields,
        values.collect::<Vec<_>>().join(" "),
    )
}

/// The type of a value in a few words.
fn shape(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escaped(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    match text(&schema["type"]) {
        "array" => format!("array of {}", shape(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", shape(&schema["additionalProperties"]))
        }
        "" => "any".to_owned(),
        kind => {
            let format = schema["format"].as_str().map(|format| format!(" ({})", escaped(format)));
            escaped(kind) + &format.unwrap_or_default()
        }
    }
}

/// A table, unless it is empty.
fn table(title: &str, heads: [&str; 3], rows: impl Iterator<Item = [String; 3]>) -> String {
    let cells = |tag: &str, cells: &[String; 3]| -> String {
        cells.iter().map(|cell| format!("<{tag}>{cell}</{tag}>")).collect::<Vec<_>>().concat()
    };
    let rows: Vec<String> = rows.map(|row| format!("<tr>{}</tr>\n", cells("td", &row))).collect();
    if rows.is_empty() {
        return String::new();
    }
    let rows = rows.concat();
    let title = if title.is_empty() { String::new() } else { format!("<h4>{title}</h4>\n") };
    let heads = cells("th", &heads.map(str::to_owned));
    format!("{title}<table>\n<tr>{heads}</tr>\n{rows}</table>\n")
}

/// What a value refers to, or itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

fn paragraphs(text: &str) -> String {
    let all = text.split("\n\n").filter(|paragraph| !paragraph.is_empty());
    all.map(|paragraph| format!("<p>{}</p>\n", inline(paragraph).replace('\n', "<br>")))
        .collect::<Vec<_>>()
        .concat()
}

/// Text whose backticks mark code.
fn inline(text: &str) -> String {
    let mut html = String::new();
    for (number, part) in text.split('`').enumerate() {
        if number > 0 {
            html.push_str(if number % 2 == 1 { "<code>" } else { "</code>" });
        }
        html.push_str(&escaped(part));
    }
    if text.matches('`').count() % 2 == 1 {
        html.push_str("</code>");
    }
    html
}

fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for symbol in text.chars() {
        match symbol {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n<title>longhaul</title>\n\
    <link rel=\"stylesheet\" href=\"/docs/style.css\">\n</head>\n<body>\n<main>\n";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_text_of_the_document_is_escaped() {
        const BAD: &str = "<script>'\"&`x";
        let document = json!({
            "info": { "title": BAD, "version": BAD, "summary": BAD, "description": BAD },
            "tags": [{ "name": BAD, "description": BAD }],
            "paths": { BAD: { BAD: {
                "tags": [BAD], "operationId": BAD, "summary": BAD, "description": BAD,
                "x-grpc-method": BAD,
                "parameters": [{ "name": BAD, "in": BAD, "description": BAD }],
                "requestBody": { "content": { BAD: { "schema": { "$ref": BAD } } } },
                "responses": { BAD: {
                    "description": BAD,
                    "headers": { BAD: {} },
                    "content": { BAD: { "schema": { "type": BAD, "format": BAD } } },
                } },
            } } },
            "components": { "schemas": { BAD: {
                "description": BAD,
                "properties": { BAD: { "description": BAD, "type": "array", "items": {} } },
                "enum": [BAD],
                "required": [BAD],
            } } },
        });
        let page = page(&document);
        assert!(!page.to_ascii_lowercase().contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;&#39;&quot;&amp;<code>x</code>"), "{page}");
        assert!(!page.contains("\"&`x"), "{page}");
    }
}
