/**
 * `kubectl get crd -o yaml | node k8s/ha/check.ts`, or with files as arguments: checks the manifests of this folder against the operators' own
 * CustomResourceDefinitions, strictly (a field that is not in the schema is an error). The exit status is 1 if one does not fit or has no definition.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { parseAllDocuments } from "yaml";

const folder = import.meta.dirname;

// biome-ignore lint/suspicious/noExplicitAny: whatever a manifest says
type Obj = any;

/** Every object of the manifests here, with the file it is in. */
export function manifests(): { file: string; object: Obj }[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith(".yaml") && !file.startsWith("values-"))
    .flatMap((file) => read(readFileSync(join(folder, file), "utf8")).map((object) => ({ file, object })));
}

/** Whether a group is not one of Kubernetes itself, so that an operator brings it. */
export function isForeign(object: Obj): boolean {
  const [group] = String(object.apiVersion).split("/");
  return group!.includes(".") && !group!.endsWith(".k8s.io");
}

function read(text: string): Obj[] {
  return parseAllDocuments(text).flatMap((document) => document.toJSON() ?? []);
}

/** The schema of a definition as JSON Schema: where fields are named, others are errors, as they are at an API server that validates strictly. */
function strict(schema: Obj): Obj {
  if (Array.isArray(schema)) return schema.map(strict);
  if (typeof schema !== "object" || schema === null) return schema;
  const out: Obj = {};
  for (const [key, value] of Object.entries<Obj>(schema)) {
    const named = key === "properties" || key === "patternProperties";
    out[key] = named ? Object.fromEntries(Object.entries(value).map(([name, s]) => [name, strict(s)])) : strict(value);
  }
  if (schema["x-kubernetes-int-or-string"]) {
    delete out.type;
    out.anyOf = [{ type: "integer" }, { type: "string" }];
  }
  if (schema.nullable && schema.type) out.type = [schema.type, "null"];
  const open = schema["x-kubernetes-preserve-unknown-fields"] || schema.additionalProperties !== undefined;
  if (schema.type === "object" && schema.properties && !open) out.additionalProperties = false;
  return out;
}

/** JSON Schemas by `<apiVersion> <kind>` from CustomResourceDefinitions, alone or in a List. */
export function fromDefinitions(texts: string[]): Map<string, Obj> {
  const objects = texts.flatMap(read).flatMap((o) => (o.kind === "List" ? o.items : o));
  const schemas = new Map<string, Obj>();
  for (const { kind, spec } of objects) {
    if (kind !== "CustomResourceDefinition") continue;
    for (const version of spec.versions) {
      const schema = strict(version.schema?.openAPIV3Schema ?? {});
      // What every object has; a definition only says that it is an object.
      schema.properties = { ...schema.properties, apiVersion: {}, kind: {}, metadata: {} };
      schemas.set(`${spec.group}/${version.name} ${spec.names.kind}`, schema);
    }
  }
  return schemas;
}

/** What is wrong with an object by the schema of its kind, one line each; `definitions` are schemas that others refer to. */
export function check(schemas: Map<string, Obj>, object: Obj, definitions: Obj[] = []): string[] {
  const name = `${object.apiVersion} ${object.kind}`;
  const schema = schemas.get(name);
  if (!schema) return [`${name}: no definition`];
  const ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false, logger: false });
  for (const definition of definitions) ajv.addSchema(definition);
  const validate = ajv.compile(schema);
  if (validate(object)) return [];
  return validate.errors!.map((e) => `${name}${e.instancePath} ${e.message} ${JSON.stringify(e.params)}`);
}

if (import.meta.main) {
  const files = process.argv.slice(2);
  const schemas = fromDefinitions((files.length > 0 ? files : [0]).map((file) => readFileSync(file, "utf8")));
  for (const { file, object } of manifests().filter((m) => isForeign(m.object))) {
    const errors = check(schemas, object);
    process.stdout.write(
      `${file}: ${object.apiVersion} ${object.kind} ${errors.length === 0 ? "fits" : "does not fit"}\n`,
    );
    for (const error of errors) process.stdout.write(`  ${error}\n`);
    if (errors.length > 0) process.exitCode = 1;
  }
}
