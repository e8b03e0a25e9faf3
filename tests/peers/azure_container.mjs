// Makes a container in Azurite whose blobs everybody may read.
//
// usage: azure_container.mjs ENDPOINT CONTAINER
//
// Account and key are Azurite's own, the same everywhere and published by its vendor. The request is signed by
// hand (Shared Key, as Azure's documentation has it), for want of a client among what is installed.

import { createHmac } from "node:crypto";

const account = "devstoreaccount1";
const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const [, , endpoint, container] = process.argv;

const headers = {
  "x-ms-blob-public-access": "blob",
  "x-ms-date": new Date().toUTCString(),
  "x-ms-version": "2021-12-02",
};
// Eleven headers that a request without a body does not have.
const signed = ["PUT", ..."\n".repeat(10).split("\n")];
for (const name of Object.keys(headers).sort()) signed.push(`${name}:${headers[name]}`);
signed.push(`/${account}/${account}/${container}`, "restype:container");
const signature = createHmac("sha256", Buffer.from(key, "base64")).update(signed.join("\n")).digest("base64");

const answer = await fetch(`${endpoint}/${account}/${container}?restype=container`, {
  method: "PUT",
  headers: { ...headers, authorization: `SharedKey ${account}:${signature}` },
});
if (answer.status !== 201) {
  console.error(answer.status, await answer.text());
  process.exitCode = 1;
}
