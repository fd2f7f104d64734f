//! `bellwire export`.

use std::fs;
use std::path::Path;

use bellwire_infra::export::{CODE_BUCKET, TEMPLATE_BODY_BYTES_MAX, Template};
use bellwire_infra::inputs::Inputs;

use crate::args::{ExportFormat, ExportOptions, Global, Overrides};
use crate::error::CommandError;
use crate::load;

pub(crate) async fn export(global: &Global, options: &ExportOptions) -> Result<(), CommandError> {
    let ExportFormat::Cloudformation = options.format;
    let otlp_endpoint = options.otlp_endpoint.clone();
    let overrides = Overrides { otlp_endpoint, adopt: Vec::new() };
    let workflow = load::overridden_workflow(global, &overrides)?;
    let inputs = load::inputs(global, &workflow)?;
    let provisioner = load::provisioner(global, workflow).await?;
    let template = provisioner.export(&inputs)?;
    if let Some(folder) = &options.code {
        write_code(folder, &template, &inputs)?;
    }
    let text = format!("{:#}\n", template.body);
    match &options.out {
        Some(file) => write(file, text.as_bytes())?,
        None => anstream::print!("{text}"),
    }
    tell(&template, options);
    Ok(())
}

/// The zips, as they must lie in the code bucket.
fn write_code(folder: &Path, template: &Template, inputs: &Inputs) -> Result<(), CommandError> {
    for (key, code_sha256) in &template.code {
        let file = folder.join(key);
        let parent = file.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .map_err(|source| CommandError::NotSaved { file: parent.to_owned(), source })?;
        write(&file, &inputs.code.zip(code_sha256).unwrap_or_default())?;
    }
    Ok(())
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    fs::write(file, bytes)
        .map_err(|source| CommandError::NotSaved { file: file.to_owned(), source })
}

/// What is still to be done, on standard error: standard output may be the template.
fn tell(template: &Template, options: &ExportOptions) {
    let resources = template.body["Resources"].as_object().map_or(0, serde_json::Map::len);
    let bytes = format!("{:#}", template.body).len();
    anstream::eprintln!(
        "{resources} resources, {bytes} bytes; the stack needs CAPABILITY_NAMED_IAM"
    );
    if bytes > TEMPLATE_BODY_BYTES_MAX {
        anstream::eprintln!(
            "over {TEMPLATE_BODY_BYTES_MAX} bytes a template has to be put into S3, and given as a URL"
        );
    }
    anstream::eprintln!(
        "\nBefore the stack, put the functions' zips into the bucket {CODE_BUCKET}:"
    );
    match &options.code {
        Some(folder) => {
            let folder = folder.display();
            anstream::eprintln!("  aws s3 cp --recursive {folder} s3://<{CODE_BUCKET}>");
        }
        None => anstream::eprintln!("  (--code FOLDER writes them under the keys that they need)"),
    }
    if !template.left_out.is_empty() {
        anstream::eprintln!("\nWhat CloudFormation cannot make, and somebody has to:");
        for left_out in &template.left_out {
            anstream::eprintln!("  - {left_out}");
        }
    }
}
