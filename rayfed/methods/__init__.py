"""The methods, one file or package each, and what they share.

A method's file has its section of the configuration, its server half, its device half and a MethodSpec, METHOD. A
package has the section and the spec in its `__init__`, and the halves, which need torch, beside it in `algorithm`.
"""
