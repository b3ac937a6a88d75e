/* An OpenSSL provider that provides nothing. Node loads it (see system.rs) before it reads
 * NODE_EXTRA_CA_CERTS; its constructor points that at the root beside it, unless the agent has
 * set it already. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int here;

__attribute__((constructor)) static void tollgate_node_roots(void)
{
	Dl_info info;
	char path[4096];
	char *slash;

	if (!dladdr(&here, &info) || !info.dli_fname || strlen(info.dli_fname) + sizeof "root.pem" > sizeof path)
		return;
	strcpy(path, info.dli_fname);
	slash = strrchr(path, '/');
	if (!slash)
		return;
	strcpy(slash + 1, "root.pem");
	setenv("NODE_EXTRA_CA_CERTS", path, 0);
}

int OSSL_provider_init(const void *handle, const void *in, const void **out, void **context)
{
	static const struct { int id; void (*function)(void); } none[] = { { 0, 0 } };

	(void)handle;
	(void)in;
	*out = none;
	*context = &here;
	return 1;
}
