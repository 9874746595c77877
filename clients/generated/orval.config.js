export default {
  auth: {
    input: "../../docs/openapi.json",
    output: { target: "generated/orval.ts", client: "fetch", baseUrl: process.env.AUTH_URL },
  },
};
